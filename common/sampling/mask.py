"""Which tokens may follow a text, and what that does to logits. Pure.

Law: both ends forbid after the penalties and before temperature, top-k, top-p and min-p. So whatever is
drawn, truncated, quantised, measured or verified lies among the allowed tokens, with their renormalised law.

A mask is packed: bit i % 32 of word i // 32 says whether token i is allowed. Ids beyond it are forbidden.
"""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Mask: TypeAlias = npt.NDArray[np.uint32]  # [ceil(vocab_size / 32)]
Masks: TypeAlias = npt.NDArray[np.uint32]  # [num_rows, ceil(vocab_size / 32)]

WORD_BITS = 32


class Constraint(Protocol):
    """The masks of one text: a function of its tokens alone, in whatever order they are asked for."""

    def mask(self, tokens: Sequence[int], position: int) -> Mask | None:
        """What may stand at `position`, given the tokens before it; None if those are forbidden already."""
        ...


def num_words(vocab_size: int) -> int:
    """The length of a mask."""
    return -(-vocab_size // WORD_BITS)


def unpack(mask: Mask, vocab_size: int) -> npt.NDArray[np.bool_]:
    """One boolean for each token [vocab_size]."""
    bits = np.unpackbits(mask.astype("<u4", copy=False).view(np.uint8), bitorder="little")
    return bits[:vocab_size].view(np.bool_)


def forbid(logits: npt.NDArray[np.floating], mask: Mask) -> npt.NDArray[np.floating]:
    """A copy of logits [vocab_size] with -inf where the mask has no bit."""
    return np.where(unpack(mask, len(logits)), logits, logits.dtype.type(-np.inf))


def only_token(mask: Mask) -> int | None:
    """The one token that a mask allows; None if it allows several, or none."""
    words = np.flatnonzero(mask)
    if len(words) != 1:
        return None
    word = int(mask[words[0]])
    return int(words[0]) * WORD_BITS + word.bit_length() - 1 if word.bit_count() == 1 else None
