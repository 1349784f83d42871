"""CloudSession: what a worker holds of one device's sequence, and how it answers. Pure.

Law 4: this state is disposable. Any worker can rebuild it from a draft with base 0. A draft that does not fit
the tokens held is answered with `need_context`, never guessed at. A repeated draft gets the same answer.

    draft           held                     answer
    n answered      -                        the remembered correction
    older epoch     -                        none: the edge has rewound since
    base 0          anything                 the sequence starts over from its context
    asks nothing    -                        at once; the context is read in the next job
    base <= held    same prefix (check)      verify
    otherwise       -                        need_context(have)
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from cloud_worker.session.admission import Target, beyond_limits
from cloud_worker.session.backlog import Backlog
from cloud_worker.session.job import Job, chain
from cloud_worker.session.judging import Judged
from cloud_worker.session.prefix_checks import PrefixChecks
from common.grammar.errors import (
    GrammarsFullError,
    GrammarSourceError,
    UnknownGrammarError,
    UnusableGrammarError,
)
from common.protocol.end_ids import with_end_ids
from common.protocol.messages import Correction, Draft, Opening, Reason, Refusal, ToDevice
from common.sampling.mask import Constraint

MAX_REFUSED = 8  # drafts at once: others wait for their turn meanwhile
MAX_REMEMBERED = 64  # corrections kept for replay: more than any window


@dataclass(slots=True)
class _Stream:
    """The bonus tokens of a draft that have yet to be written."""

    draft: Draft
    next_index: int


class CloudSession:
    """The state machine of one session: drafts and verdicts in, answers out, all as values."""

    def __init__(self, target: Target, device: str = "") -> None:
        """`device` is whose session it is."""
        self.tokens: list[int] = []
        self.epoch = 0
        self.num_failures = 0  # failed passes in a row with no other session in the batch
        self._checks = PrefixChecks()
        self._target = target
        self._device = device
        self._opening: Opening | None = None
        self._masks: Constraint | None = None  # of the opening's grammar
        self._backlog = Backlog(max_tokens=2 * target.max_tokens)
        self._running: Job | None = None
        self._stream: _Stream | None = None
        self._last_n = -1
        self._remembered: OrderedDict[int, Correction] = OrderedDict()

    @property
    def ready(self) -> bool:
        """True when `next_job` has something to do."""
        return self._running is None and (len(self._backlog) > 0 or self._stream is not None)

    @property
    def num_waiting_bytes(self) -> int:
        """Roughly how much memory the waiting drafts take."""
        return self._backlog.num_bytes

    def receive(self, draft: Draft) -> list[ToDevice]:
        """Take in a draft. Returns the answers ready now; otherwise the draft waits for `next_job`."""
        if draft.n in self._remembered:
            return [self._remembered[draft.n]]
        running = self._running.drafts if self._running else ()
        if any(draft.n == queued.n for queued in (*self._backlog, *running)):
            return []
        is_huge = len(draft.context) > self._target.max_tokens
        if is_huge and (refusal := beyond_limits(draft, self._target)):
            return [refusal]  # not worth the memory until its turn
        if not self._backlog.has_room(draft):
            return [self._target.refuse(draft, Reason.BUSY, "too many drafts are waiting", retry_after=1.0)]
        if draft.only_reads:
            return [self._read_ahead(draft)]
        self._backlog.add(draft)
        return []

    def _read_ahead(self, draft: Draft) -> ToDevice:
        """Tell the device at once where its next drafts go, and read the context when its turn comes."""
        refusal = beyond_limits(draft, self._target)
        if refusal is None and draft.opening is not None:
            _, refusal = self._masks_of(draft, draft.opening)
        if refusal is not None:
            return refusal
        self._backlog.add(draft)
        codes = with_end_ids(b"", self._target.eos_ids)
        target = self._target
        answer = Correction(draft.n, 0, None, target.worker, context_codes=codes, limit=target.max_tokens)
        self._remembered[draft.n] = answer
        return answer

    def next_job(self) -> tuple[Job | None, list[ToDevice]]:
        """The next job, with all waiting drafts that continue one another; and answers ready now."""
        answers: list[ToDevice] = []
        while self._backlog and self._running is None and len(answers) < MAX_REFUSED:
            draft = self._backlog.take()
            if self._is_stale(draft):
                continue
            refusal = self._admit(draft)
            if refusal is not None:
                answers.append(refusal)
            elif self._opening is not None:  # always: `_admit` has set it
                self._stream = None
                self._running = chain(
                    self._opening, draft, self._backlog, self.tokens, self._target, self._masks
                )
        is_next = self._running is None and not self._backlog
        if is_next and self._stream is not None and self._opening is not None:
            self._running = Job(self._opening, (), tuple(self.tokens), 1, self._masks)
        return self._running, answers

    def complete(self, judged: Sequence[Judged], compute_ms: float) -> list[ToDevice]:
        """Take in what `judge` returned for the running job; returns the corrections."""
        job, self._running, self.num_failures = self._running, None, 0
        if job is None:
            raise RuntimeError("no job is running")
        if not job.drafts:
            return self._next_bonus(judged[0].verdict.token, compute_ms)
        answers: list[ToDevice] = []
        for draft, one in zip(job.drafts, judged, strict=False):
            correction = self._correct(draft, one, compute_ms)
            if not draft.only_reads:  # which has been answered
                answers += [correction, *self._end_of_room(draft, num_written=1)]
        return answers

    def abandon(
        self,
        detail: str,
        *,
        reason: Reason = Reason.BUSY,
        retry_after: float = 0.0,
        judged: Sequence[Judged] = (),
        compute_ms: float = 0.0,
    ) -> list[ToDevice]:
        """Drop the running job and refuse its drafts; after `BUSY` the edge retries, perhaps elsewhere.

        Its first drafts may have been `judged` already: they are corrected. A bonus stream that breaks off is
        refused by the number of its draft.
        """
        job, stream = self._running, self._stream
        self._running = self._stream = None
        if job is None:
            return []
        drafts = job.drafts if job.drafts or stream is None else (stream.draft,)
        answers: list[ToDevice] = [
            self._correct(draft, one, compute_ms) for draft, one in zip(drafts, judged, strict=False)
        ]
        self._stream = None  # a correction may have begun one, but it was refused with the rest
        return answers + [
            self._target.refuse(draft, reason, detail, retry_after=retry_after)
            for draft in drafts[len(judged) :]
        ]

    def dismiss(self, detail: str, *, retry_after: float) -> list[ToDevice]:
        """End the session: every draft it still holds is refused."""
        waiting = self._backlog.clear()
        refusals = [
            self._target.refuse(draft, Reason.BUSY, detail, retry_after=retry_after) for draft in waiting
        ]
        return self.abandon(detail, retry_after=retry_after) + refusals

    # -- a draft against the state ---------------------------------------------------------------------

    def _is_stale(self, draft: Draft) -> bool:
        return draft.n <= self._last_n or (draft.base > 0 and draft.epoch < self.epoch)

    def _admit(self, draft: Draft) -> Refusal | None:
        """Rewind `tokens` to the draft's base, or return why it cannot be verified."""
        refusal = beyond_limits(draft, self._target)
        if refusal is not None:
            return refusal
        if draft.opening is not None:
            masks, refusal = self._masks_of(draft, draft.opening)
            if refusal is not None:
                return refusal
            self._masks = masks
            self._opening, self.tokens, self.epoch = draft.opening, [], draft.epoch
        elif not self._holds(draft):
            return self._target.refuse(draft, Reason.NEED_CONTEXT, have=len(self.tokens))
        del self.tokens[draft.base :]
        self._checks.cut(draft.base)
        return None

    def _masks_of(self, draft: Draft, opening: Opening) -> tuple[Constraint | None, Refusal | None]:
        """What forbids tokens in the answer, or why this worker cannot follow its grammar."""
        try:
            return self._target.masks(opening, self._device), None
        except UnknownGrammarError:
            return None, self._target.refuse(draft, Reason.NEED_CONTEXT, "the grammar is needed")
        except GrammarsFullError:
            detail = "too many grammars are in use"
            return None, self._target.refuse(draft, Reason.BUSY, detail, retry_after=1.0)
        except GrammarSourceError:  # whose text may quote what a person wrote
            detail = "the grammar does not compile; the device says why"
            return None, self._target.refuse(draft, Reason.BAD_REQUEST, detail)
        except UnusableGrammarError as error:
            return None, self._target.refuse(draft, Reason.BAD_REQUEST, str(error))

    def _holds(self, draft: Draft) -> bool:
        """Whether the prefix that the draft builds on is held."""
        return (
            0 < draft.base <= len(self.tokens)
            and draft.epoch == self.epoch
            and self._checks.at(self.tokens, draft.base) == draft.check
        )

    # -- verification -------------------------------------------------------------------------------

    def _correct(self, draft: Draft, judged: Judged, compute_ms: float) -> Correction:
        verdict = judged.verdict
        self.tokens.extend(draft.context)
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
            context_codes=self._codes(draft, judged),
            compute_ms=compute_ms,
        )
        self._remember(correction)
        return correction

    def _codes(self, draft: Draft, judged: Judged) -> bytes:
        """The context probabilities, and in the answer to an opening, except of an audit, the end tokens."""
        is_audit = not (draft.block or draft.bonus or draft.only_reads)
        if draft.opening is None or is_audit:
            return judged.context_codes
        return with_end_ids(judged.context_codes, self._target.eos_ids)

    def _next_bonus(self, token: int | None, compute_ms: float) -> list[ToDevice]:
        stream = self._stream
        if stream is None or token is None:
            return []  # a newer draft has replaced the stream
        self.tokens.append(token)
        draft, index = stream.draft, stream.next_index
        self._stream = self._unless_ended(_Stream(draft, index + 1))
        correction = Correction(draft.n, len(draft.block), token, self._target.worker, index, b"", compute_ms)
        return [correction, *self._end_of_room(draft, num_written=index + 1)]

    def _unless_ended(self, stream: _Stream) -> _Stream | None:
        ended = stream.next_index >= stream.draft.bonus or self.tokens[-1] in self._ends or self._is_full
        return None if ended else stream

    @property
    def _ends(self) -> frozenset[int]:
        """The tokens that end a stream; nothing may follow one of the device's where there is a grammar."""
        grammar = self._opening.grammar if self._opening is not None else None
        return self._target.eos_ids if grammar is None else self._target.eos_ids.union(grammar.end_ids)

    @property
    def _is_full(self) -> bool:
        return len(self.tokens) >= self._target.max_tokens

    def _end_of_room(self, draft: Draft, num_written: int) -> list[Refusal]:
        """The refusal that ends a stream for lack of room, so that the device need not wait for the rest."""
        ended = num_written >= draft.bonus or self.tokens[-1] in self._ends
        return [] if ended or not self._is_full else [self._target.refuse_length(draft, len(self.tokens) + 1)]

    def _remember(self, correction: Correction) -> None:
        self._last_n = correction.n
        self._remembered[correction.n] = correction
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
