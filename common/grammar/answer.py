"""The masks of one answer: its grammar, and where it may end. The same at both ends.

Law: a token that ends an answer is allowed exactly where the grammar may end. Where nothing else can follow,
one end token is allowed, the first that the device names: both ends then have the same one to take.
"""

from collections.abc import Collection, Sequence

import numpy as np

from common.grammar.matcher import Matcher
from common.sampling.mask import Mask, only_token


class AnswerMasks:
    """The `Constraint` of an answer that begins after `num_prompt` tokens."""

    def __init__(self, matcher: Matcher, num_prompt: int, end_ids: Collection[int], closing: int) -> None:
        """`end_ids` are all tokens that end the answer; `closing` is the one that ends a complete one."""
        self._matcher = matcher
        self._num_prompt = num_prompt
        self._ends = matcher.mask_of([*end_ids, closing])
        self._closing = matcher.mask_of([closing])

    def mask(self, tokens: Sequence[int], position: int) -> Mask | None:
        """As `Constraint.mask`; everything is allowed in the prompt."""
        if position < self._num_prompt:
            return np.full_like(self._ends, 0xFFFFFFFF)
        allowed = self._matcher.allowed(tokens[self._num_prompt : position])
        if allowed is None:
            return None
        mask, may_end = allowed
        mask &= ~self._ends
        if may_end:
            return mask | self._ends if mask.any() else self._closing
        return mask

    def forced(self, tokens: Sequence[int], most: int) -> list[int]:
        """The tokens that must follow, each the only one that is allowed; at most `most`."""
        text, run = list(tokens), list[int]()
        while len(run) < most:
            mask = self.mask(text, len(text))
            token = None if mask is None else only_token(mask)
            if token is None:
                break
            run.append(token)
            text.append(token)
            if mask is self._closing:
                break
        return run
