"""One mutant: it is written into a copy of the working tree, and the tests of its package run there.

Law: the working tree is only read. A trial is a forked process that has the libraries loaded already, but no
module of the project, so it imports the mutant; starting Python again takes longer than most tests.
"""

import importlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from multiprocessing import get_context
from pathlib import Path
from typing import NoReturn

from benchmarks.mutation.mutants import Mutant
from benchmarks.mutation.suites import Suite

LIBRARIES = ("numpy", "scipy.stats", "hypothesis", "pytest", "cbor2", "torch", "transformers")
PATIENCE = 20.0, 4.0  # a trial may take so many seconds, and so many times the time without a mutation
MAX_MEMORY = 8 << 30  # address space in bytes: a mutant may ask for any amount
PROJECT = ("common", "edge_agent", "cloud_worker", "evaluation", "benchmarks", "mosquitto", "tests")
WRONG_TREE = 99  # exit code
FAILED = {1, 2, 3}  # exit codes of pytest: failed tests, an error while they are imported, an error in a hook


class Outcome(Enum):
    """What became of a mutant."""

    SURVIVED = "survived"
    KILLED = "killed"
    TIMED_OUT = "timed out"


def preload() -> None:
    """Load the libraries that the tests import, once for all trials."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    for name in LIBRARIES:
        importlib.import_module(name)


@dataclass(frozen=True, slots=True)
class Trials:
    """Trials in copies of `root`, one copy for each process, in `folder`."""

    root: Path
    folder: Path

    def time_limit(self, suite: Suite) -> float | None:
        """Seconds that a trial with these tests may take; None if they fail without any mutation."""
        begun = time.monotonic()
        if self._run(self._tree(), suite, limit=1800.0) is not Outcome.SURVIVED:
            return None
        return PATIENCE[0] + PATIENCE[1] * (time.monotonic() - begun)

    def run(self, suite: Suite, mutant: Mutant, limit: float) -> Outcome:
        """Run the tests of a package with a mutant of one of its modules."""
        tree = self._tree()
        module = tree / mutant.path
        try:
            module.write_text(mutant.source(self.root), encoding="utf-8")
            return self._run(tree, suite, limit)
        finally:
            shutil.copy2(
                self.root / mutant.path, module
            )  # with its old time, by which Python knows its cache

    def log_of(self, suite: Suite) -> str:
        """What the tests printed last."""
        return self._log(suite).read_text(encoding="utf-8", errors="replace")

    def _log(self, suite: Suite) -> Path:
        return self.folder / f"{suite.package.replace('/', '.')}.log"

    def _tree(self) -> Path:
        """This process's copy: what git tracks or would track."""
        tree = self.folder / str(os.getpid())
        if not tree.exists():
            command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
            listed = subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout
            for name in filter(None, listed.split("\0")):
                if (self.root / name).is_file():  # not deleted
                    (tree / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(self.root / name, tree / name)
        return tree

    def _run(self, tree: Path, suite: Suite, limit: float) -> Outcome:
        trial = get_context("fork").Process(target=_test, args=(tree, suite, self._log(suite)))
        trial.start()
        trial.join(limit)
        if trial.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(trial.pid or 0, signal.SIGKILL)
            trial.join()
            return Outcome.TIMED_OUT
        if trial.exitcode == 0:
            return Outcome.SURVIVED
        if trial.exitcode in FAILED or (trial.exitcode or 0) < 0:  # below 0: it crashed
            return Outcome.KILLED
        raise RuntimeError(f"pytest ended with {trial.exitcode}:\n{self.log_of(suite)}")


def _test(tree: Path, suite: Suite, log: Path) -> NoReturn:
    """In the forked process: run the tests on the copy, with nothing of the working tree on the path."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(tree)
    sys.path[0] = str(tree)
    for name in [name for name in sys.modules if name.partition(".")[0] in PROJECT]:
        del sys.modules[name]  # this command's own, from the working tree
    options = [
        "-x",
        "-q",
        "-m",
        "not slow",
        "--noconftest",
        "-p",
        "no:cacheprovider",
        "-p",
        "benchmarks.mutation.quick_search",
    ]
    import pytest

    code = pytest.main([*options, *(f"--deselect={test}" for test in suite.skipped), *suite.tests])
    sys.stdout.flush()
    is_copy = str(sys.modules["common"].__file__).startswith(str(tree))
    os._exit(code if is_copy else WRONG_TREE)
