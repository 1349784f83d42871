"""The verdicts on a job's drafts: a function of the job and its logits alone. Pure.

Law: it reads no session state. So a worker judges in the model's thread while its event loop goes on reading
and answering; with large vocabularies this is the longest step after the forward pass. Law 5: a row that is
not finite is never judged. A comparison with NaN is false, so it would accept any draft token.
"""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from cloud_worker.session.job import Job, Row, Rows
from cloud_worker.session.verification import TargetProbs, Verdict, target_choice, verifying
from common.grammar.errors import UnusableGrammarError
from common.protocol.messages import Draft
from common.sampling.distribution import encode_probs, fit_vocabulary, warped
from common.sampling.mask import forbid
from common.sampling.penalties import Penalties


class LogitsError(ArithmeticError):
    """The target model's logits for a position are no distribution: NaN, +inf, or all -inf."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on one draft, and the context probabilities it asked for, one byte each."""

    verdict: Verdict
    context_codes: bytes = b""


class Judging:
    """The verdicts on one job, as far as its rows have been computed: `take` them in order, a few at a time.

    Each draft is judged in turn, up to the first block with a rejected token. Without drafts, the verdict's
    token is the next token of a bonus stream.
    """

    def __init__(self, job: Job) -> None:
        self.judged: list[Judged] = []
        self.num_rows = 0  # taken so far
        self._job = job
        self._first_predicted = len(job.tokens) - job.num_rows + 1
        self._penalties = Penalties(job.opening.sampling, job.opening.num_prompt)
        self._steps = self._all()
        self._wanted: int | None = next(self._steps, None)  # the position to be judged next

    @property
    def is_complete(self) -> bool:
        """Whether no further row is needed; a job has at least one, also if it only reads a prompt."""
        return self._wanted is None and self.num_rows > 0

    def take(self, rows: Rows) -> None:
        """Judge with the next rows [n, width].

        An error (LogitsError, if a row that is needed is not finite) ends the job; what was judged before it
        stands.
        """
        begin = self._first_predicted + self.num_rows
        self.num_rows += len(rows)
        while self._wanted is not None and self._wanted < begin + len(rows):
            probs = self._target_probs(rows[self._wanted - begin], self._wanted)
            try:
                self._wanted = self._steps.send(probs)
            except StopIteration:
                self._wanted = None

    def _target_probs(self, logits: Row, position: int) -> TargetProbs:
        opening = self._job.opening
        row = fit_vocabulary(logits, opening.vocab_size)
        largest = float(row.max())  # NaN if any entry is
        if not np.isfinite(largest):
            raise LogitsError(f"no finite logits for position {position} (the largest is {largest:g})")
        row = self._penalties.apply(row, self._job.tokens, position)
        return warped(self._allowed(row, position), opening.sampling)

    def _allowed(self, logits: Row, position: int) -> Row:
        """The logits without those of the tokens that the grammar forbids."""
        masks = self._job.masks
        if masks is None:
            return logits
        mask = masks.mask(self._job.tokens, position)
        if mask is None:
            raise UnusableGrammarError("the draft's context breaks its grammar")
        allowed = forbid(logits, mask)
        if not np.isfinite(allowed.max()):
            raise LogitsError(f"no finite logits for what the grammar allows at position {position}")
        return allowed

    def _all(self) -> Generator[int, TargetProbs, None]:
        job, seed = self._job, self._job.opening.seed
        if not job.drafts:
            position = len(job.tokens)
            self.judged.append(Judged(Verdict(0, target_choice((yield position), seed, position))))
        for draft in job.drafts:
            judged = yield from self._one(draft)
            self.judged.append(judged)
            if judged.verdict.num_accepted < len(draft.block):
                return

    def _one(self, draft: Draft) -> Generator[int, TargetProbs, Judged]:
        start = draft.base + len(draft.context)
        measured: list[float] = []
        for position in range(start - draft.num_context_probs, start):
            measured.append((yield position)[self._job.tokens[position]])
        verdict = yield from verifying(
            draft.block, seed=self._job.opening.seed, position=start, bonus=draft.bonus > 0
        )
        return Judged(verdict, encode_probs(np.array(measured)).tobytes() if measured else b"")


def judge(job: Job, rows: Rows) -> list[Judged]:
    """The verdicts from all rows of a job, [num_rows, width]; LogitsError as in `Judging.take`."""
    judging = Judging(job)
    judging.take(rows)
    return judging.judged
