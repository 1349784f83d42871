"""The prompts that a threshold is tested on: those it was calibrated for, and others with the same meaning.

Law: a changed prompt has the words and the meaning of the plain one; a person would expect the same answer.
"""

import re
from collections.abc import Callable


def misspelt(text: str) -> str:
    """Swap two letters in every third word of four letters or more, as in hasty typing: ktichen."""
    count = 0

    def swap(word: re.Match[str]) -> str:
        nonlocal count
        count += 1
        letters = word.group()
        return letters if count % 3 else f"{letters[0]}{letters[2]}{letters[1]}{letters[3:]}"

    return re.sub(r"[A-Za-z]{4,}", swap, text)


# no model here was trained on the changed prompts; the control was tuned on "shifted", never on "misspelt"
DOMAINS: dict[str, Callable[[str], str]] = {
    "in-domain": str,
    "shifted": str.title,  # As Some Keyboards And Speech Recognisers Write
    "misspelt": misspelt,
}
