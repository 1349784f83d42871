"""Where a text stands in its grammar, and which tokens may follow.

Law: what is allowed is a function of the tokens before it alone. The matcher follows the text it is asked
about: it goes back to what the two have in common and takes in the rest, so asking in order is cheap.
"""

import threading
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from common.grammar.errors import GrammarSourceError
from common.sampling.mask import WORD_BITS, Mask, num_words

if TYPE_CHECKING:
    from llguidance import LLMatcher

MAX_REASON_CHARS = 160
DEAD_END = "the grammar leads where no token can follow: change it, or use a model with another vocabulary"


class Matcher:
    """`allowed` says what may follow some tokens of an answer, which starts at the grammar's beginning."""

    def __init__(self, matcher: "LLMatcher", vocab_size: int, owner: object = None) -> None:
        """`owner` is kept for as long as this is."""
        self._owner = owner
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._taken: list[int] = []
        self._lock = threading.Lock()

    def allowed(self, tokens: Sequence[int]) -> tuple[Mask, bool] | None:
        """The tokens that may follow, and whether the answer may end; None if `tokens` are forbidden.

        The mask belongs to the caller. GrammarSourceError if nothing can follow, or a limit is reached.
        """
        with self._lock:
            if not self._follow(tokens):
                return None
            return self._mask()

    def mask_of(self, tokens: Collection[int]) -> Mask:
        """The mask that allows these tokens and no other; ids beyond the vocabulary are left out."""
        mask = np.zeros(num_words(self._vocab_size), np.uint32)
        for token in tokens:
            if 0 <= token < self._vocab_size:
                mask[token // WORD_BITS] |= np.uint32(1 << token % WORD_BITS)
        return mask

    def _follow(self, tokens: Sequence[int]) -> bool:
        given = list(tokens)
        num_same = len(self._taken)
        if given[:num_same] != self._taken:
            pairs = enumerate(zip(self._taken, given, strict=False))
            num_same = next((i for i, (own, one) in pairs if own != one), min(num_same, len(given)))
            num_back = len(self._taken) - num_same
            del self._taken[num_same:]
            if not self._matcher.rollback(num_back):
                raise GrammarSourceError(self._error())
        added = given[num_same:]
        for token in added:
            if token >= self._vocab_size or self._matcher.try_consume_tokens([token]) != 1:
                self._raise_if_broken()
                return False
            self._taken.append(token)
        self._raise_if_broken()
        return True

    def _mask(self) -> tuple[Mask, bool]:
        may_end = self._matcher.is_accepting()
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint32).copy()
        self._raise_if_broken()
        word, bit = divmod(self._vocab_size, WORD_BITS)  # the end of the grammar
        mask[word] &= np.uint32((1 << bit) - 1)
        mask = mask[: num_words(self._vocab_size)]
        if not may_end and not mask.any():
            raise GrammarSourceError(DEAD_END)
        return mask, may_end

    def _raise_if_broken(self) -> None:
        if self._matcher.is_error():
            raise GrammarSourceError(self._error())

    def _error(self) -> str:
        reason = next(iter(self._matcher.get_error().splitlines()), "")[:MAX_REASON_CHARS]
        return DEAD_END if "NoExtension" in reason else f"the grammar is too complex: {reason}"
