"""Penalties on logits: functions of the text so far, so both ends compute them from the same tokens. Pure.

Law: the logits of a position depend on the tokens before it alone, in whatever order positions are asked for.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from common.sampling.distribution import Sampling

_Logits = npt.NDArray[np.floating]


class Penalties:
    """The penalties of one text; asking for rising positions is cheap, since each token is counted once.

    `repetition_penalty` acts on every token of the text, prompt included: a logit is divided by it when it is
    positive, and multiplied when it is negative (Keskar et al. 2019, as in transformers). The other two act
    on the tokens after the first `num_prompt`: `frequency_penalty` times their count and `presence_penalty`
    once are subtracted (as in OpenAI's API).
    """

    def __init__(self, sampling: Sampling, num_prompt: int = 0) -> None:
        self._sampling, self._num_prompt = sampling, num_prompt
        self._text: Sequence[int] = ()  # whose first `_num_counted` tokens are in the counts below
        self._num_counted = 0
        self._seen = np.zeros(0, np.bool_)  # [vocab_size]: whether the text has this token
        self._counts = np.zeros(0, np.int32)  # [vocab_size]: how often, after the prompt

    def apply(self, logits: _Logits, tokens: Sequence[int], position: int) -> _Logits:
        """The logits [vocab_size] for `position`, given the tokens before it; a copy where they change."""
        sampling = self._sampling
        if not sampling.has_penalties:
            return logits
        self._count(tokens, position, len(logits))
        changed = logits.copy()
        if sampling.repetition_penalty != 1.0:
            seen = np.flatnonzero(self._seen)
            found, factor = changed[seen], sampling.repetition_penalty
            with np.errstate(over="ignore"):
                changed[seen] = np.where(found < 0.0, found * factor, found / factor)
        if sampling.presence_penalty or sampling.frequency_penalty:
            written = np.flatnonzero(self._counts)
            changed[written] -= sampling.presence_penalty
            changed[written] -= sampling.frequency_penalty * self._counts[written]
        return changed

    def _count(self, tokens: Sequence[int], position: int, vocab_size: int) -> None:
        """Bring the counts to the first `position` tokens, from the beginning where the text is another."""
        if vocab_size != len(self._seen) or not self._continues(tokens, position):
            self._num_counted = 0
            self._seen = np.zeros(vocab_size, np.bool_)
            self._counts = np.zeros(vocab_size, np.int32)
        added = np.array(tokens[self._num_counted : position], np.int64)
        self._seen[added] = True
        np.add.at(self._counts, added[max(0, self._num_prompt - self._num_counted) :], 1)
        self._text, self._num_counted = tuple(tokens), position

    def _continues(self, tokens: Sequence[int], position: int) -> bool:
        """Whether what is counted begins the text up to `position`."""
        num = self._num_counted
        return position >= num and (tokens is self._text or tuple(tokens[:num]) == self._text[:num])
