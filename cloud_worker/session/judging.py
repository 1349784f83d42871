"""The verdicts on a job's drafts: a function of the job and its logits alone. Pure.

Law: it reads no session state. So a worker judges in the model's thread while its event loop goes on reading
and answering; with large vocabularies this is the longest step after the forward pass. Law 5: a row that is
not finite is never judged. A comparison with NaN is false, so it would accept any draft token.

A job asks one question of each row. `Judging.take` answers them here, in numpy; an engine may answer them
where its logits lie, from `Judging.asked`, and `settle` the same numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from cloud_worker.session.job import Job, Row, Rows
from cloud_worker.session.verification import TargetProbs, Verdict, target_choice, verify_token
from common.grammar.errors import UnusableGrammarError
from common.protocol.messages import Draft, DraftToken
from common.sampling.distribution import encode_probs, fit_vocabulary, warped
from common.sampling.mask import Mask, forbid
from common.sampling.penalties import Penalties


class LogitsError(ArithmeticError):
    """The target model's logits for a position are no distribution: NaN, +inf, or all -inf."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on one draft, and the context probabilities it asked for, one byte each."""

    verdict: Verdict
    context_codes: bytes = b""


class Asked(Enum):
    """What a row is asked for."""

    PROB = auto()  # the probability of a token of the context
    TOKEN = auto()  # what a draft token with its distribution becomes: itself or its replacement
    CHOICE = auto()  # the target's own choice: for a draft token without a distribution, or a bonus token


@dataclass(frozen=True, slots=True)
class Question:
    """What the row for a position answers: with a probability, or with a token."""

    asked: Asked
    position: int
    token: int | None = None  # of the context or of the draft; None: a bonus token is wanted
    draft: DraftToken | None = None


class Judging:
    """The verdicts on one job, as far as its rows have been computed: a few rows at a time, in order.

    Each draft is judged in turn, up to the first block with a rejected token. Without drafts, the verdict's
    token is the next token of a bonus stream.
    """

    def __init__(self, job: Job) -> None:
        self.judged: list[Judged] = []
        self.num_rows = 0  # taken so far
        self.job = job
        self._first_predicted = len(job.tokens) - job.num_rows + 1
        self._penalties = Penalties(job.opening.sampling, job.opening.num_prompt)
        self._masks: dict[int, Mask | None] = {}  # by position
        self._script = list(_script(job))
        self._next = 0  # in the script
        self._measured: list[float] = []
        self._num_accepted = 0
        self._bonus: int | None = None
        self._close()

    @property
    def is_complete(self) -> bool:
        """Whether no further row is needed; a job has at least one, also if it only reads a prompt."""
        return self.is_over and self.num_rows > 0

    def asked(self, num_rows: int) -> list[Question]:
        """What the next rows are asked, if all draft tokens in them are accepted."""
        end = self._first_predicted + self.num_rows + num_rows
        waiting = (item for item in self._script[self._next :] if isinstance(item, Question))
        return [question for question in waiting if question.position < end]

    def row_of(self, question: Question) -> int:
        """Which of the next rows a question is for."""
        return question.position - self._first_predicted - self.num_rows

    @property
    def is_over(self) -> bool:
        """Whether nothing more is asked."""
        return self._next == len(self._script)

    def settle(self, question: Question, answer: float) -> None:
        """Take the answer to the question that is asked next."""
        self._next += 1
        if question.asked is Asked.PROB:
            self._measured.append(answer)
        elif question.token is None:
            self._bonus = int(answer)
        elif question.token == answer:
            self._num_accepted += 1
        else:
            self._bonus = int(answer)
            self._judge()
            self._next = len(self._script)
        self._close()

    def pass_over(self, num_rows: int) -> None:
        """Go on to the rows after the next ones, which have answered what they were asked."""
        self.num_rows += num_rows

    def take(self, rows: Rows) -> None:
        """Judge with the next rows [n, width].

        An error (LogitsError, if a row that is needed is not finite) ends the job; what was judged before it
        stands.
        """
        for question in self.asked(len(rows)):
            if not self.is_over:
                self.settle(question, self.answer(question, rows[self.row_of(question)]))
        self.pass_over(len(rows))

    def answer(self, question: Question, logits: Row) -> float:
        """The answer that a row [width] gives: a probability or a token."""
        position, seed = question.position, self.job.opening.seed
        probs = self._target_probs(logits, position)
        if question.asked is Asked.PROB:
            return probs[question.token or 0]
        if question.asked is Asked.TOKEN and question.draft is not None:
            return verify_token(probs, question.draft, seed, position)
        return target_choice(probs, seed, position)

    def _target_probs(self, logits: Row, position: int) -> TargetProbs:
        opening = self.job.opening
        row = fit_vocabulary(logits, opening.vocab_size)
        check_finite(float(row.max()), position)  # NaN if any entry is
        return warped(self.allowed(self.penalised(row, position), position), opening.sampling)

    def allowed(self, logits: Row, position: int) -> Row:
        """The logits without those of the tokens that the grammar forbids."""
        mask = self.mask(position)
        if mask is None:
            return logits
        allowed = forbid(logits, mask)
        check_allowed(float(allowed.max()), position)
        return allowed

    def mask(self, position: int) -> Mask | None:
        """Which tokens the grammar allows at a position; None without a grammar.

        UnusableGrammarError if the text before it breaks the grammar.
        """
        if self.job.masks is None:
            return None
        if position not in self._masks:
            self._masks[position] = self.job.masks.mask(self.job.tokens, position)
        mask = self._masks[position]
        if mask is None:
            raise UnusableGrammarError("the draft's context breaks its grammar")
        return mask

    def mask_ahead(self, num_rows: int) -> None:
        """Find what the grammar allows where the next rows are asked; beside the forward pass."""
        for question in self.asked(num_rows):
            try:
                self.mask(question.position)
            except Exception:  # noqa: BLE001 - raised again where it matters, as this task's own fault
                return

    def penalised(self, logits: Row, position: int) -> Row:
        """The logits [vocab_size] for a position with the penalties of the text before it."""
        return self._penalties.apply(logits, self.job.tokens, position)

    def _close(self) -> None:
        """Judge the drafts that have no further question."""
        while self._next < len(self._script) and self._script[self._next] is None:
            self._next += 1
            self._judge()

    def _judge(self) -> None:
        codes = encode_probs(np.array(self._measured)).tobytes() if self._measured else b""
        self.judged.append(Judged(Verdict(self._num_accepted, self._bonus), codes))
        self._measured, self._num_accepted, self._bonus = [], 0, None


def _script(job: Job) -> Iterator[Question | None]:
    """All questions of a job in order, if every draft token is accepted; None ends a draft."""
    if not job.drafts:
        yield Question(Asked.CHOICE, len(job.tokens))
        yield None
    for draft in job.drafts:
        yield from _questions(draft, job.tokens)
        yield None


def _questions(draft: Draft, tokens: Sequence[int]) -> Iterator[Question]:
    start = draft.base + len(draft.context)
    for position in range(start - draft.num_context_probs, start):
        yield Question(Asked.PROB, position, tokens[position])
    for position, item in enumerate(draft.block, start):
        asked = Asked.CHOICE if item.distribution is None else Asked.TOKEN
        yield Question(asked, position, item.token, item)
    if draft.bonus:
        yield Question(Asked.CHOICE, start + len(draft.block))


def check_finite(largest: float, position: int) -> None:
    """LogitsError unless the largest logit for a position is finite."""
    if not np.isfinite(largest):
        raise LogitsError(f"no finite logits for position {position} (the largest is {largest:g})")


def check_allowed(largest: float, position: int) -> None:
    """LogitsError unless the largest logit of the allowed tokens is finite."""
    if not np.isfinite(largest):
        raise LogitsError(f"no finite logits for what the grammar allows at position {position}")


def judge(job: Job, rows: Rows) -> list[Judged]:
    """The verdicts from all rows of a job, [num_rows, width]; LogitsError as in `Judging.take`."""
    judging = Judging(job)
    judging.take(rows)
    return judging.judged
