"""What passes between the scheduler and the worker's loop: tasks to run, answers to send. Pure values."""

from dataclasses import dataclass
from typing import NamedTuple

from cloud_worker.scheduling.fair_queue import SessionKey
from cloud_worker.session.job import Job
from cloud_worker.session.session import CloudSession
from common.protocol.messages import ToDevice


class Answer(NamedTuple):
    """A message and the session it is for."""

    key: SessionKey
    message: ToDevice


@dataclass(frozen=True, slots=True)
class Task:
    """A job together with the session it belongs to."""

    key: SessionKey
    session: CloudSession
    job: Job
