"""Whether an answer is right: a program passes its test, or the last number is the right one.

A program that a model wrote runs in a process of its own, with little memory and time and an empty folder.
That is no sandbox: it could still read files and use the network, so score on a machine without secrets.
"""

import re
import resource
import subprocess
import sys
import tempfile

from evaluation.real_models.problems import CODE, STOPS, Problem

SECONDS = 10
MEMORY = 1 << 30
FILE_BYTES = 1 << 20
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def is_right(problem: Problem, answer: str) -> bool:
    """Return whether `answer` solves the problem."""
    if problem.kind == CODE:
        return passes(problem.prompt + body(answer) + "\n" + problem.check)
    return last_number(answer) == last_number(problem.check)


def body(answer: str) -> str:
    """Return the function's body: the answer up to the first line that belongs to something else."""
    return answer[: min((answer.find(stop) for stop in STOPS if stop in answer), default=len(answer))]


def last_number(text: str) -> float | None:
    """Return the number behind '####', or else the last one; None without one."""
    found = _NUMBER.findall(text.rpartition("####")[2]) or _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def passes(program: str) -> bool:
    """Return whether the program ends without an error, in time."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", program],
                cwd=folder,
                env={},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=2 * SECONDS,
                preexec_fn=_limited,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0


def _limited() -> None:
    for kind, most in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
