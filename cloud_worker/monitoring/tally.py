"""The counts of one worker since it began: what came in, what became of it, what it cost. Pure values.

Law: counts only grow; rates and means follow from two readings (`Pace`), never from a count that is reset.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cloud_worker.scheduling.scheduler import Answer, Task
from common.process.histogram import Histogram
from common.protocol.messages import Correction, Reason, Refusal

COMPUTE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class WorkerFate(StrEnum):
    """What became of a token that a worker looked at or wrote."""

    ACCEPTED = "accepted"  # a draft token that stands
    REJECTED = (
        "rejected"  # a draft token that the target model does not take; those behind it are not looked at
    )
    CORRECTED = "corrected"  # written in the place of a rejected one
    TARGET = "target"  # written by the target model after an accepted block, or alone


class Trouble(StrEnum):
    """Errors by kind."""

    TOPIC = "unreadable_topic"
    PAYLOAD = "unreadable_payload"
    RATE = "over_rate"  # readable or not: it was not looked at
    PASS = "failed_pass"


@dataclass(slots=True)
class WorkerTally:
    """Counts of one worker."""

    num_uplinks: dict[str, int] = field(default_factory=lambda: {"open": 0, "draft": 0})  # messages by way
    num_by_fate: dict[WorkerFate, int] = field(default_factory=lambda: dict.fromkeys(WorkerFate, 0))
    num_refusals: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))
    num_troubles: dict[Trouble, int] = field(default_factory=lambda: dict.fromkeys(Trouble, 0))
    compute_seconds: Histogram = field(default_factory=lambda: Histogram(COMPUTE_SECONDS))  # a forward pass
    batch_sizes: Histogram = field(default_factory=lambda: Histogram(BATCH_SIZES))  # sessions in one

    @property
    def num_tested(self) -> int:
        """Draft tokens that the target model accepted or rejected."""
        return self.num_by_fate[WorkerFate.ACCEPTED] + self.num_by_fate[WorkerFate.REJECTED]

    @property
    def num_verified(self) -> int:
        """Tokens that this worker made final: accepted ones and its own."""
        return sum(self.num_by_fate.values()) - self.num_by_fate[WorkerFate.REJECTED]

    def passed(self, num_sessions: int, seconds: float) -> None:
        """A forward pass over so many sessions took so long."""
        self.batch_sizes.add(num_sessions)
        self.compute_seconds.add(seconds)

    def verified(self, tasks: Sequence[Task], answers: Sequence[Answer]) -> None:
        """The corrections that a batch led to."""
        lengths = {(task.key, draft.n): len(draft.block) for task in tasks for draft in task.job.drafts}
        for key, message in answers:
            if isinstance(message, Correction):
                # a later token of a bonus stream belongs to no draft of this batch and tests nothing
                self._count(message, lengths.get((key, message.n), message.num_accepted))

    def refused(self, answers: Sequence[Answer]) -> None:
        """Count the refusals among what was answered."""
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
    """Verified tokens a second and sessions a pass between two readings of a tally, not closer than `window`.

    Times are the caller's clock in seconds.
    """

    window: float
    began: float
    tokens_per_second: float = 0.0
    batch_size: float = 0.0
    _num_verified: int = 0
    _num_passes: int = 0
    _num_passed: float = 0.0  # sessions in all those passes

    def read(self, tally: WorkerTally, now: float) -> None:
        """Take a reading; one that comes too early changes nothing."""
        if now - self.began < self.window:
            return
        passes, passed = tally.batch_sizes.num_values, tally.batch_sizes.sum
        self.tokens_per_second = (tally.num_verified - self._num_verified) / (now - self.began)
        self.batch_size = (passed - self._num_passed) / max(1, passes - self._num_passes)
        self.began, self._num_verified = now, tally.num_verified
        self._num_passes, self._num_passed = passes, passed
