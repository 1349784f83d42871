"""Counts of one worker since it started: what arrived, what became of it, what it cost. Pure values.

Law: counts only grow. Rates and means come from the difference between two moments (`Pace`), never from a
count that is reset.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cloud_worker.scheduling.task import Answer, Task
from common.process.histogram import Histogram
from common.protocol.messages import Correction, Reason, Refusal

COMPUTE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class WorkerFate(StrEnum):
    """What became of a token that a worker verified or wrote."""

    ACCEPTED = "accepted"  # a draft token that stands
    REJECTED = "rejected"  # a draft token that the target model refused; the tokens after it are not counted
    CORRECTED = "corrected"  # written in place of a rejected token
    TARGET = "target"  # written by the target model after an accepted block, or on its own


class ErrorKind(StrEnum):
    """Kinds of errors, as metrics label them."""

    TOPIC = "unreadable_topic"
    PAYLOAD = "unreadable_payload"
    RATE = "over_rate"  # the message was not decoded for being too much
    PASS = "failed_pass"
    ENGINE = "lost_engine"  # what runs the target model could not be reached
    LOGITS = "bad_logits"  # the target model's logits for a token were not finite
    JUDGING = "failed_judging"


@dataclass(slots=True)
class WorkerTally:
    """Counts of one worker."""

    num_uplinks: dict[str, int] = field(default_factory=lambda: {"open": 0, "draft": 0})  # messages, by topic
    num_by_fate: dict[WorkerFate, int] = field(default_factory=lambda: dict.fromkeys(WorkerFate, 0))
    num_refusals: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))
    num_errors: dict[ErrorKind, int] = field(default_factory=lambda: dict.fromkeys(ErrorKind, 0))
    compute_seconds: Histogram = field(default_factory=lambda: Histogram(COMPUTE_SECONDS))  # per pass
    batch_sizes: Histogram = field(default_factory=lambda: Histogram(BATCH_SIZES))  # sessions per pass

    @property
    def num_tested(self) -> int:
        """Draft tokens that were accepted or rejected."""
        return self.num_by_fate[WorkerFate.ACCEPTED] + self.num_by_fate[WorkerFate.REJECTED]

    @property
    def num_final(self) -> int:
        """Tokens that this worker made final: accepted draft tokens and its own."""
        return sum(self.num_by_fate.values()) - self.num_by_fate[WorkerFate.REJECTED]

    def count_pass(self, num_sessions: int, seconds: float) -> None:
        """Count a forward pass and what it took."""
        self.batch_sizes.add(num_sessions)
        self.compute_seconds.add(seconds)

    def count_corrections(self, tasks: Sequence[Task], answers: Sequence[Answer]) -> None:
        """Count the tokens in the corrections that a batch led to."""
        lengths = {(task.key, draft.n): len(draft.block) for task in tasks for draft in task.job.drafts}
        for key, message in answers:
            if isinstance(message, Correction):
                # a later token of a bonus stream belongs to no draft of this batch and tests nothing
                self._count(message, lengths.get((key, message.n), message.num_accepted))

    def count_refusals(self, answers: Sequence[Answer]) -> None:
        """Count the refusals among the answers."""
        for _, message in answers:
            if isinstance(message, Refusal):
                self.num_refusals[message.reason] += 1

    def _count(self, correction: Correction, block_length: int) -> None:
        rejects = correction.num_accepted < block_length
        if correction.index == 0:
            self.num_by_fate[WorkerFate.ACCEPTED] += correction.num_accepted
            self.num_by_fate[WorkerFate.REJECTED] += rejects
        if correction.token is not None:
            self.num_by_fate[WorkerFate.CORRECTED if rejects else WorkerFate.TARGET] += 1


@dataclass(slots=True)
class Pace:
    """Final tokens per second and sessions per pass, over a stretch of at least `window` seconds.

    Times are in seconds on the caller's clock.
    """

    window: float
    began: float
    tokens_per_second: float = 0.0
    batch_size: float = 0.0
    _num_final: int = 0
    _num_passes: int = 0
    _num_passed: float = 0.0  # sessions in all those passes

    def update(self, tally: WorkerTally, now: float) -> None:
        """Compute both for the stretch that ends `now`; does nothing before `window` is over."""
        if now - self.began < self.window:
            return
        passes, passed = tally.batch_sizes.num_values, tally.batch_sizes.sum
        self.tokens_per_second = (tally.num_final - self._num_final) / (now - self.began)
        self.batch_size = (passed - self._num_passed) / max(1, passes - self._num_passes)
        self.began, self._num_final = now, tally.num_final
        self._num_passes, self._num_passed = passes, passed
