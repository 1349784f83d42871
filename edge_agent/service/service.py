"""The queue in front of an agent, and those who watch it.

Law: at most `max_waiting` asks wait; one more is refused at once and costs nothing. Asks are answered in the
order in which they came, whichever way they came.
"""

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TypeAlias, TypedDict, Unpack

from common.protocol.grammar import Grammar
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.errors import AgentError, BusyError, ClosingError
from edge_agent.options import Options, configured
from edge_agent.service.answer import Answer
from edge_agent.service.notices import Changed, Closing, Cloud, Ended, Notice, Refused, Taken
from edge_agent.text.prompts import Message

Watch: TypeAlias = Callable[[Notice], None]

_ENDING = "the agent is being stopped: ask again when it is back"
_ANY = Grammar.regex(".*")
_DECIDING_THRESHOLD = ("risk", "threshold")


class Defaults(TypedDict, total=False):
    """What asks are answered with that do not say otherwise; None: as the agent was started with."""

    scheme: str | None
    risk: float | None
    threshold: float | None
    on_cloud_loss: str | None


class Service:
    """All asks of one agent; `answers` are those that wait or run, oldest first."""

    def __init__(self, agent: EdgeAgent, *, max_waiting: int = 4) -> None:
        self.agent = agent
        self.max_waiting = max_waiting
        self.answers: list[Answer] = []
        self.last: Answer | None = None  # the last that ended with text
        self.is_closing = False
        self.began_at = time.time()
        self._defaults: Options = {}
        self._watches: list[Watch] = []
        self._reached = agent.reaches_cloud
        self._compiling = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        agent.watch_cloud(self._look_at_cloud)

    @property
    def config(self) -> AgentConfig:
        """The settings of asks that bring none of their own."""
        return configured(self.agent.config, self._defaults)

    def set(self, **defaults: Unpack[Defaults]) -> None:
        """Change the settings of the asks to come; raises ConfigError, and then changes nothing."""
        merged = _merged(self._defaults, defaults)
        self.agent.check(configured(self.agent.config, merged))
        self._defaults = merged
        self._tell(Changed())

    async def prepare(self, *, way: str, **options: Unpack[Options]) -> None:
        """Compile the grammar of an ask to come, if it has one: beside the event loop, one at a time.

        Raises what `ask` would raise for it.
        """
        grammar = options.get("grammar")
        if grammar is None and options.get("tools"):
            grammar = _ANY  # loads the engine; the grammar of the calls then takes milliseconds
        if grammar is not None:
            async with self._compiling:
                with self._refusing(way):
                    self._check_room()
                    await self.agent.prepare(grammar)

    def ask(self, prompt: str | Sequence[Message], *, way: str, **options: Unpack[Options]) -> Answer:
        """Take an ask, whose answer begins when a slot is free.

        Raises BusyError when the queue is full, ClosingError, and what `EdgeAgent.generate` raises.
        """
        with self._refusing(way):
            self._check_room()
            answer = Answer(self.agent, self.agent.generate(prompt, **_merged(self._defaults, options)), way)
        self.answers.append(answer)
        self._idle.clear()
        answer.begin().add_done_callback(lambda _task: self._ended(answer))
        self._tell(Taken(answer))
        return answer

    @property
    def running(self) -> list[Answer]:
        """Those that have a slot."""
        return self.answers[: self.agent.num_slots]

    @property
    def waiting(self) -> list[Answer]:
        """Those that wait for one."""
        return self.answers[self.agent.num_slots :]

    @property
    def num_running(self) -> int:
        """Answers being generated."""
        return len(self.running)

    @property
    def num_free(self) -> int:
        """Slots without an answer."""
        return self.agent.num_slots - self.num_running

    @property
    def num_waiting(self) -> int:
        """Asks that wait for a slot."""
        return len(self.waiting)

    def num_before(self, answer: Answer) -> int:
        """How many asks wait before this one; 0 when it runs or is the next."""
        return self.waiting.index(answer) if self.is_waiting(answer) else 0

    def is_waiting(self, answer: Answer) -> bool:
        """Whether it has no slot yet."""
        return answer in self.waiting

    def cancel(self, id: str | None = None) -> bool:
        """End the answer with this id, or the oldest; False if there is none."""
        for answer in self.answers:
            if id is None or answer.id == id:
                answer.cancel()
                return True
        return False

    async def close(self, timeout: float) -> None:
        """Take no more asks, end those that wait, and those that run if they have not ended in time."""
        if not self.is_closing:
            self.is_closing = True
            self._tell(Closing())
        for answer in self.waiting:
            answer.cancel(_ENDING)
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            for answer in self.answers:
                answer.cancel(_ENDING)
            await self._idle.wait()

    @contextmanager
    def watched(self, watch: Watch) -> Generator[None]:
        """Within the block, call `watch` for each notice, in the event loop: it neither blocks nor raises."""
        self._watches.append(watch)
        try:
            yield
        finally:
            self._watches.remove(watch)

    def _check_room(self) -> None:
        if self.is_closing:
            raise ClosingError(_ENDING)
        if self.num_waiting >= self.max_waiting and self.num_free == 0:
            raise BusyError(
                f"{self.num_waiting} asks wait already, as many as `max_waiting` allows: try again later"
            )

    @contextmanager
    def _refusing(self, way: str) -> Generator[None]:
        """Tell those who watch of an AgentError, which is raised on."""
        try:
            yield
        except AgentError as error:
            self._tell(Refused(way, str(error)))
            raise

    def _ended(self, answer: Answer) -> None:
        self.answers.remove(answer)
        if answer.report is not None and answer.report.num_tokens:
            self.last = answer
        if not self.answers:
            self._idle.set()
        self._tell(Ended(answer))

    def _look_at_cloud(self) -> None:
        if self.agent.reaches_cloud != self._reached:
            self._reached = not self._reached
            self._tell(Cloud(self._reached))

    def _tell(self, notice: Notice) -> None:
        for watch in list(self._watches):
            watch(notice)


def _merged(defaults: Options, options: Options | Defaults) -> Options:
    """`options` over `defaults`; those that decide the threshold replace each other, as in `configured`."""
    if options.get("scheme") is not None:
        dropped = {"scheme", *_DECIDING_THRESHOLD}
    elif any(options.get(name) is not None for name in _DECIDING_THRESHOLD):
        dropped = {*_DECIDING_THRESHOLD}
    else:
        dropped = set[str]()
    kept = {name: value for name, value in defaults.items() if name not in dropped}
    merged: Options = {**kept, **options}  # type: ignore[typeddict-item]
    return merged
