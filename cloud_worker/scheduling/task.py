"""What passes between the scheduler and the worker's loop: tasks to run, answers to send."""

from dataclasses import dataclass, field
from typing import NamedTuple

from cloud_worker.scheduling.fair_queue import SessionKey
from cloud_worker.session.job import Job
from cloud_worker.session.judging import Judging
from cloud_worker.session.session import CloudSession
from common.protocol.messages import ToDevice


class Answer(NamedTuple):
    """A message and the session it is for."""

    key: SessionKey
    message: ToDevice


@dataclass(frozen=True, slots=True)
class Task:
    """A job together with the session it belongs to, and how far it has been judged."""

    key: SessionKey
    session: CloudSession
    job: Job
    judging: Judging = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "judging", Judging(self.job))
