"""The documents are short where it matters and read as written in English.

The phrases below are those that a machine can find; each comes with what to write instead.
"""

import re
from pathlib import Path

import pytest

from tests.repository.test_documents import every_page, page

MAX_README_WORDS = 1000

RATES = r"tokens?|messages?|bytes|ms|seconds?|uplinks?|sessions?|CPU|cores?|MiB|drift|probability|cost"
UNITS = r"token|second|minute|message|pass|session|device|line|byte|core|answer|process"
TRANSLATED = {
    "a rate with 'a' instead of 'per'": rf"\b(?:\d|{RATES}) an? (?:{UNITS})\b",
    "a one-line error is not 'a sentence'": r"\b(?:a|one) sentence\b",
    "the project is not a house": r"\bthe house\b",
    "sessions are evicted": r"\bputs? (?:it )?out\b|\bputting out\b",
    "an untrusted peer, an unknown client": r"\bstrangers?\b",
    "page someone": r"\bwakes? (?:somebody|someone)\b",
    "no one, or the thing that is meant": r"\b(?:nobody|somebody)\b",
    "predicts": r"\bfore(?:tells?|told)\b",
    "any, or each": r"\b(?:whatever|whoever)\b",
    "again": r"\banew\b",
    "of it, so that ... not, for lack of": r"\bthereof\b|\blest\b|\bfor want of\b",
    "reproducible": r"\btext comes again\b",
}


def prose(text: str) -> str:
    """A page without what its program prints or reads: blocks and words of code."""
    return re.sub(r"^```.*?^```|`[^`\n]+`", "", text, flags=re.MULTILINE | re.DOTALL)


def test_the_readme_is_short() -> None:
    assert len(page("README.md").split()) <= MAX_README_WORDS


@every_page
def test_a_page_reads_as_written_in_english(path: Path) -> None:
    text = prose(path.read_text(encoding="utf-8"))
    found = {
        advice: [match[0] for match in re.finditer(pattern, text, re.IGNORECASE)]
        for advice, pattern in TRANSLATED.items()
    }
    assert {advice: phrases for advice, phrases in found.items() if phrases} == {}


@pytest.mark.parametrize(
    "phrase", ["20 ms a token", "tokens a second", "It ends with a sentence.", "Nobody listens.", "the House"]
)
def test_a_translated_phrase_is_noticed(phrase: str) -> None:
    assert any(re.search(pattern, prose(phrase), re.IGNORECASE) for pattern in TRANSLATED.values())


@pytest.mark.parametrize(
    "phrase", ["20 ms per token", "send a token", "`nobody serves pool demo`", "a second try"]
)
def test_a_plain_phrase_is_let_through(phrase: str) -> None:
    assert not any(re.search(pattern, prose(phrase), re.IGNORECASE) for pattern in TRANSLATED.values())
