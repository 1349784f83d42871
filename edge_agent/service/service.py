"""The queue in front of an agent, and those who watch it.

Law: at most `max_waiting` asks wait; one more is refused at once and costs nothing. Asks are answered in the
order in which they came, whichever way they came.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias, Unpack

from edge_agent.agent import EdgeAgent
from edge_agent.errors import AgentError
from edge_agent.options import Options
from edge_agent.service.answer import Answer
from edge_agent.text.prompts import Message


class BusyError(AgentError):
    """The queue is full."""


@dataclass(frozen=True, slots=True)
class Taken:
    """An ask was taken."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Ended:
    """An answer is complete, was cancelled or has failed; it has a report."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Cloud:
    """The connection to the broker has come up or gone down."""

    connected: bool


Notice: TypeAlias = Taken | Ended | Cloud
Watch: TypeAlias = Callable[[Notice], None]


class Service:
    """All asks of one agent; `answers` are those that wait or run, oldest first."""

    def __init__(self, agent: EdgeAgent, *, max_waiting: int = 4) -> None:
        self.agent = agent
        self.max_waiting = max_waiting
        self.answers: list[Answer] = []
        self._watches: list[Watch] = []

    def ask(self, prompt: str | Sequence[Message], *, way: str, **options: Unpack[Options]) -> Answer:
        """Take an ask, whose answer begins when a slot is free.

        Raises BusyError when the queue is full, and what `EdgeAgent.generate` raises.
        """
        if self.num_waiting >= self.max_waiting:
            raise BusyError(
                f"{self.num_waiting} asks wait already, as many as `max_waiting` allows: try again later"
            )
        answer = Answer(self.agent, self.agent.generate(prompt, **options), way)
        self.answers.append(answer)
        answer.begin().add_done_callback(lambda _task: self._ended(answer))
        self._tell(Taken(answer))
        return answer

    @property
    def num_running(self) -> int:
        """Answers being generated."""
        return min(len(self.answers), self.agent.num_slots)

    @property
    def num_waiting(self) -> int:
        """Asks that wait for a slot."""
        return len(self.answers) - self.num_running

    def num_before(self, answer: Answer) -> int:
        """How many asks wait before this one; 0 when it runs or is the next."""
        return max(0, self.answers.index(answer) - self.agent.num_slots)

    def cancel(self, id: str | None = None) -> bool:
        """End the answer with this id, or the oldest; False if there is none."""
        for answer in self.answers:
            if id is None or answer.id == id:
                answer.cancel()
                return True
        return False

    @contextmanager
    def watched(self, watch: Watch) -> Generator[None]:
        """Within the block, call `watch` for each notice, in the event loop: it neither blocks nor raises."""
        self._watches.append(watch)
        try:
            yield
        finally:
            self._watches.remove(watch)

    def _ended(self, answer: Answer) -> None:
        self.answers.remove(answer)
        self._tell(Ended(answer))

    def _tell(self, notice: Notice) -> None:
        for watch in list(self._watches):
            watch(notice)
