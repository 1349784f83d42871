"""The tokens of one generation, with the fate of each and the draft model's probability of it. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from common.sampling.randomness import FloatArray


class Fate(StrEnum):
    """Where a final token came from."""

    LOCAL = "local"  # the draft model was certain: never sent
    VERIFIED = "verified"  # a draft token that the target model accepted
    CORRECTED = "corrected"  # resampled by the target model after a rejection
    TARGET = "target"  # written by the target model (a bonus token, or the llm scheme)
    FORCED = "forced"  # the only token that the grammar allows: never drafted
    UNVERIFIED = "unverified"  # should have been verified, but the cloud could not be reached


SKIPPED = (Fate.LOCAL, Fate.UNVERIFIED)  # final without having been verified


@dataclass(frozen=True, slots=True)
class FinalToken:
    """A token that no longer changes."""

    token: int
    fate: Fate


class Transcript:
    """Prompt and generated tokens by position; a fate of None means that it awaits verification.

    `version` changes whenever `tokens` do.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self.tokens = list(prompt)
        self.num_prompt = len(prompt)
        self.version = 0
        self._fates: list[Fate | None] = []
        self._probs: list[float] = []
        self._measured: list[bool] = []
        self._risks: list[float] = []  # of those measured

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def num_generated(self) -> int:
        """Tokens after the prompt."""
        return len(self._fates)

    def append(self, token: int, fate: Fate | None, draft_prob: float = 1.0) -> None:
        """Add a token at the end."""
        self.version += 1
        self.tokens.append(token)
        self._fates.append(fate)
        self._probs.append(draft_prob)
        self._measured.append(False)
        self._risks.append(0.0)

    def rewind(self, length: int) -> None:
        """Forget every token from position `length` on."""
        self.version += length < len(self.tokens)
        del self.tokens[length:]
        del self._fates[length - self.num_prompt :]
        del self._probs[length - self.num_prompt :]
        del self._measured[length - self.num_prompt :]
        del self._risks[length - self.num_prompt :]

    def mark(self, start: int, count: int, fate: Fate) -> None:
        """Settle the fate of the tokens [start, start + count); a forced one stays forced."""
        first = start - self.num_prompt
        for index in range(first, first + count):
            if self._fates[index] is not Fate.FORCED:
                self._fates[index] = fate

    def mark_open(self, fate: Fate) -> None:
        """Settle the fate of every token that still awaits verification."""
        self._fates = [fate if known is None else known for known in self._fates]

    def mark_measured(self, start: int, risks: Sequence[float]) -> None:
        """The rejection probabilities of the tokens from `start` on are known; NaN for one that has none."""
        for index, risk in enumerate(risks, start - self.num_prompt):
            if not math.isnan(risk):
                self._measured[index], self._risks[index] = True, risk

    @property
    def measured(self) -> tuple[int, float]:
        """How many tokens were measured, and the sum of their rejection probabilities."""
        return sum(self._measured), sum(self._risks)

    def unmeasured(self) -> list[range]:
        """Runs of positions that were never verified and whose risk is not known.

        Forced tokens among them, which have none, do not divide a run.
        """
        runs: list[range] = []
        reach = -1  # the position after the last run and the forced tokens behind it
        for index, (fate, measured) in enumerate(zip(self._fates, self._measured, strict=True)):
            position = self.num_prompt + index
            is_forced, joins = fate is Fate.FORCED, reach == position
            reach = position + 1 if not measured and (fate in SKIPPED or (is_forced and joins)) else -1
            if measured or fate not in SKIPPED:
                continue
            if joins:
                runs[-1] = range(runs[-1].start, position + 1)
            else:
                runs.append(range(position, position + 1))
        return runs

    def final(self, position: int) -> FinalToken:
        """The token at a position whose fate is settled."""
        fate = self._fates[position - self.num_prompt]
        if fate is None:
            raise RuntimeError(f"the token at position {position} is not verified yet")
        return FinalToken(self.tokens[position], fate)

    def is_forced(self, start: int, end: int) -> bool:
        """Whether all of the tokens [start, end) are forced."""
        fates = self._fates[start - self.num_prompt : end - self.num_prompt]
        return all(fate is Fate.FORCED for fate in fates)

    def first_skipped(self, start: int, end: int) -> int:
        """The position of the first skipped token of [start, end); `end` if there is none."""
        positions = range(start, end)
        return next((one for one in positions if self._fates[one - self.num_prompt] in SKIPPED), end)

    def draft_probs(self, start: int, end: int) -> FloatArray:
        """The draft model's probabilities of the tokens [start, end); NaN for forced ones."""
        return np.array(self._probs[start - self.num_prompt : end - self.num_prompt])
