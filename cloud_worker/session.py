"""CloudSession: what a worker knows of one device's sequence, and what it answers. Pure.

Law 4: this state is disposable. Any worker builds it anew from a draft with base 0; a draft that does not fit
what is held is answered with `need_context`, never guessed at. A repeated draft gets the same answer.

    draft           held                     answer
    n answered      -                        the remembered correction
    older epoch     -                        none: the edge has rewound since
    base 0          anything                 the sequence starts anew from its context
    base <= held    same prefix (check)      verify
    otherwise       -                        need_context(have)
"""

from collections import OrderedDict, deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud_worker.verification import target_choice, verify_block
from common.checksum import prefix_check
from common.codec import CodecError, check_ids
from common.distribution import encode_probs, fit_vocabulary, warp
from common.messages import (
    MAX_CONTEXT_PROBS,
    PROTOCOL_VERSION,
    Correction,
    Draft,
    Opening,
    Reason,
    Refusal,
    ToDevice,
)
from common.randomness import FloatArray

MAX_REMEMBERED = 64  # corrections kept for replay: more than any window
MAX_WAITING = 64  # drafts that a session may have waiting
MAX_CHAIN_ROWS = 512  # logits of one job that more drafts may join

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Target:
    """What a session must know of the worker that runs it."""

    worker: str
    tokenizer: bytes
    vocab_size: int
    max_tokens: int
    eos_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Job:
    """One forward pass: logits are wanted for the last `num_rows` positions of `tokens`.

    It serves the given drafts, one after the other; none of them means the next token of a bonus stream.
    """

    drafts: tuple[Draft, ...]
    tokens: tuple[int, ...]
    num_rows: int


@dataclass(slots=True)
class _Stream:
    """Bonus tokens still to come for a draft."""

    draft: Draft
    next_index: int


class CloudSession:
    """The state machine of one session: drafts and logits come in as values, answers go out as values."""

    def __init__(self, target: Target) -> None:
        self.tokens: list[int] = []
        self.epoch = 0
        self._target = target
        self._opening: Opening | None = None
        self._waiting: deque[Draft] = deque()
        self._running: Job | None = None
        self._stream: _Stream | None = None
        self._last_n = -1
        self._remembered: OrderedDict[int, Correction] = OrderedDict()

    @property
    def ready(self) -> bool:
        """True when `next_job` has something to do."""
        return self._running is None and (bool(self._waiting) or self._stream is not None)

    def receive(self, draft: Draft) -> list[ToDevice]:
        """Take a draft in. Returns what can be answered at once; the rest waits for `next_job`."""
        if draft.n in self._remembered:
            return [self._remembered[draft.n]]
        running = self._running.drafts if self._running else ()
        if any(draft.n == queued.n for queued in (*self._waiting, *running)):
            return []
        if len(draft.context) > self._target.max_tokens and (refusal := self._check_limits(draft)):
            return [refusal]  # never worth a place in the queue
        num_tokens = sum(len(queued.context) for queued in (*self._waiting, draft))
        if len(self._waiting) >= MAX_WAITING or num_tokens > 2 * self._target.max_tokens:
            return [self._refuse(draft, Reason.BUSY, "too many drafts are waiting", retry_after=1.0)]
        self._waiting.append(draft)
        return []

    def next_job(self) -> tuple[Job | None, list[ToDevice]]:
        """The next forward pass, covering all waiting drafts that follow one another, and other answers."""
        answers: list[ToDevice] = []
        while self._waiting and self._running is None:
            draft = self._waiting.popleft()
            if self._is_stale(draft):
                continue
            refusal = self._admit(draft)
            if refusal is not None:
                answers.append(refusal)
            else:
                self._stream = None
                self._running = self._chain(draft)
        if self._running is None and self._stream is not None:
            self._running = Job((), tuple(self.tokens), 1)
        return self._running, answers

    def complete(self, rows: Rows, compute_ms: float) -> list[ToDevice]:
        """Verify the running job with its logits `rows` [num_rows, width]; returns its corrections."""
        job, self._running = self._running, None
        if job is None or self._opening is None:
            raise RuntimeError("no job is running")
        probs = _TargetProbs(rows, len(job.tokens) - job.num_rows, self._opening)
        if not job.drafts:
            return self._next_bonus(probs, compute_ms)
        corrections: list[ToDevice] = []
        for draft in job.drafts:
            corrections.append(self._verify(draft, probs, compute_ms))
            if self.epoch != draft.epoch:
                break
        return corrections

    def abandon(self, detail: str, *, retry_after: float) -> list[ToDevice]:
        """The running job failed: nothing of it happened, and the edge should try again, maybe elsewhere."""
        job, self._running, self._stream = self._running, None, None
        drafts = job.drafts if job else ()
        return [self._refuse(draft, Reason.BUSY, detail, retry_after=retry_after) for draft in drafts]

    def dismiss(self, detail: str, *, retry_after: float) -> list[ToDevice]:
        """The session must go: nobody who waits for it is left without an answer."""
        waiting, self._waiting = self._waiting, deque()
        refusals = [self._refuse(draft, Reason.BUSY, detail, retry_after=retry_after) for draft in waiting]
        return self.abandon(detail, retry_after=retry_after) + refusals

    # -- what a draft means for the state -------------------------------------------------------------

    def _is_stale(self, draft: Draft) -> bool:
        return draft.n <= self._last_n or (draft.base > 0 and draft.epoch < self.epoch)

    def _admit(self, draft: Draft) -> Refusal | None:
        """Bring `tokens` to the draft's base, or say why it cannot be verified."""
        refusal = self._check_limits(draft)
        if refusal is not None:
            return refusal
        if draft.opening is not None:
            self._opening, self.tokens, self.epoch = draft.opening, [], draft.epoch
        elif not self._holds(draft):
            return self._refuse(draft, Reason.NEED_CONTEXT, have=len(self.tokens))
        del self.tokens[draft.base :]
        return None

    def _check_limits(self, draft: Draft) -> Refusal | None:
        target, opening = self._target, draft.opening
        if opening is not None and opening.version != PROTOCOL_VERSION:
            return self._refuse(
                draft, Reason.UNSUPPORTED_VERSION, f"this worker speaks version {PROTOCOL_VERSION}"
            )
        if opening is not None and (opening.tokenizer, opening.vocab_size) != (
            target.tokenizer,
            target.vocab_size,
        ):
            return self._refuse(
                draft,
                Reason.TOKENIZER_MISMATCH,
                f"the target model's vocabulary is {target.tokenizer.hex()} with {target.vocab_size} tokens, "
                f"the draft model's is {opening.tokenizer.hex()} with {opening.vocab_size}",
            )
        try:
            check_ids(draft, target.vocab_size)
        except CodecError as error:
            return self._refuse(draft, Reason.BAD_REQUEST, str(error))
        start = draft.base + len(draft.context)
        if start <= draft.num_context_probs or not (draft.block or draft.bonus or draft.num_context_probs):
            return self._refuse(draft, Reason.BAD_REQUEST, "there is nothing to verify, or nothing before it")
        if draft.num_context_probs > MAX_CONTEXT_PROBS:
            return self._refuse(
                draft, Reason.BAD_REQUEST, f"more than {MAX_CONTEXT_PROBS} context probabilities are wanted"
            )
        needed = start + len(draft.block) + min(draft.bonus, 1)
        if needed > target.max_tokens:
            return self._refuse(
                draft,
                Reason.TOO_LONG,
                f"the sequence has {needed} tokens and this worker takes {target.max_tokens}",
            )
        return None

    def _holds(self, draft: Draft) -> bool:
        """Whether the prefix that the draft builds on is the one held."""
        return (
            0 < draft.base <= len(self.tokens)
            and draft.epoch == self.epoch
            and prefix_check(self.tokens[: draft.base]) == draft.check
        )

    def _chain(self, draft: Draft) -> Job:
        """One job for the draft and those waiting behind it, assuming that each block is accepted."""
        drafts = [draft]
        tokens = [*self.tokens, *_tokens_of(draft)]
        first_wanted = draft.base + len(draft.context) - draft.num_context_probs
        while (
            self._waiting
            and len(tokens) - first_wanted < MAX_CHAIN_ROWS
            and self._follows(self._waiting[0], drafts[-1], tokens)
        ):
            drafts.append(self._waiting.popleft())
            tokens += _tokens_of(drafts[-1])
        if drafts[-1].block and not drafts[-1].bonus:
            tokens.pop()  # what follows the last token is wanted for a bonus only
        return Job(tuple(drafts), tuple(tokens), len(tokens) - (first_wanted - 1))

    def _follows(self, following: Draft, draft: Draft, tokens: list[int]) -> bool:
        return (
            not draft.bonus
            and following.opening is None
            and following.n > draft.n
            and following.epoch == self.epoch
            and following.base == len(tokens)
            and following.check == prefix_check(tokens)
            and self._check_limits(following) is None
        )

    # -- verification -------------------------------------------------------------------------------

    def _verify(self, draft: Draft, probs: "_TargetProbs", compute_ms: float) -> Correction:
        self.tokens.extend(draft.context)
        start = len(self.tokens)
        context_probs = [probs.at(i)[self.tokens[i]] for i in range(start - draft.num_context_probs, start)]
        verdict = verify_block(
            lambda i: probs.at(start + i),
            draft.block,
            seed=probs.opening.seed,
            position=start,
            bonus=draft.bonus > 0,
        )
        self.tokens.extend(item.token for item in draft.block[: verdict.num_accepted])
        if verdict.token is not None:
            self.tokens.append(verdict.token)
        if verdict.num_accepted < len(draft.block):
            self.epoch += 1
        elif draft.bonus > 1:
            self._stream = self._unless_ended(_Stream(draft, next_index=1))
        correction = Correction(
            n=draft.n,
            num_accepted=verdict.num_accepted,
            token=verdict.token,
            worker=self._target.worker,
            context_codes=encode_probs(np.array(context_probs)).tobytes() if context_probs else b"",
            compute_ms=compute_ms,
        )
        self._remember(correction)
        return correction

    def _next_bonus(self, probs: "_TargetProbs", compute_ms: float) -> list[ToDevice]:
        stream = self._stream
        if stream is None:
            return []  # a newer draft has taken the stream's place
        position = len(self.tokens)
        token = target_choice(probs.at(position), probs.opening.seed, position)
        self.tokens.append(token)
        draft, index = stream.draft, stream.next_index
        self._stream = self._unless_ended(_Stream(draft, index + 1))
        return [Correction(draft.n, len(draft.block), token, self._target.worker, index, b"", compute_ms)]

    def _unless_ended(self, stream: _Stream) -> _Stream | None:
        ended = (
            stream.next_index >= stream.draft.bonus
            or self.tokens[-1] in self._target.eos_ids
            or len(self.tokens) >= self._target.max_tokens
        )
        return None if ended else stream

    def _remember(self, correction: Correction) -> None:
        self._last_n = correction.n
        self._remembered[correction.n] = correction
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _refuse(
        self, draft: Draft, reason: Reason, detail: str = "", *, have: int = 0, retry_after: float = 0.0
    ) -> Refusal:
        return Refusal(draft.n, reason, self._target.worker, detail, have, retry_after)


class _TargetProbs:
    """The target's warped distribution for each position that the rows of a job predict."""

    def __init__(self, rows: Rows, first_position: int, opening: Opening) -> None:
        self.opening = opening
        self._rows = rows
        self._first_predicted = first_position + 1

    def at(self, position: int) -> FloatArray:
        """y [vocab_size] for the token at `position`."""
        row = fit_vocabulary(self._rows[position - self._first_predicted], self.opening.vocab_size)
        return warp(row, self.opening.sampling)


def _tokens_of(draft: Draft) -> list[int]:
    return [*draft.context, *(item.token for item in draft.block)]
