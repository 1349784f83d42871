"""Takes what apps send, and answers: the shell around the other modules of this package.

Law: nothing that an app sends raises here, and what it costs is bounded: one message at a time is read, the
queue of the service bounds the answers, the outbox what is kept, and a rate the refusals.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from common.floods import is_logged
from common.link import Received, ReplyTo, reply_to
from common.protocol.topics import ANSWER, ASK, CANCEL, EVENT, HOME_ASSISTANT_STATUS, SET, Topics
from edge_agent.app_topics.answered import MAX_ECHOES, Answered
from edge_agent.app_topics.answering import Asked, SendTokens, followed
from edge_agent.app_topics.asks import Ask, Id, parse_ask
from edge_agent.app_topics.json_objects import Object, write
from edge_agent.app_topics.messages import answered_event, event, refused_answer, refused_event
from edge_agent.app_topics.outbox import Kind, Outgoing
from edge_agent.app_topics.refusal import EchoError, RefusalError
from edge_agent.app_topics.refusal_rate import RefusalRate
from edge_agent.app_topics.sender import Sender
from edge_agent.app_topics.settings import parse_cancel, parse_set
from edge_agent.app_topics.status_board import StatusBoard
from edge_agent.config import AgentConfig
from edge_agent.errors import AgentError
from edge_agent.generation.app_line import AppLine
from edge_agent.home_assistant.announcement import Announcement
from edge_agent.options import Options
from edge_agent.service.notices import Changed, Cloud, Ended, Notice, Taken
from edge_agent.service.service import Defaults, Service

WAY = "mqtt"
READER_SECONDS = 30.0  # for which an answer waits for its app after the broker was away
FLUSH_SECONDS = 2.0
FLOOD_PAUSE = 0.05  # after a message of a flood, so that reading it does not take the processor

_log = logging.getLogger(__name__)


class AppSide:
    """One device's apps; works while `running`."""

    def __init__(self, service: Service, line: AppLine, config: AgentConfig) -> None:
        self._service = service
        self._line = line
        self._topics, self._device = Topics(config.root), config.device_name
        self._sender = Sender(line)
        self._board = StatusBoard(service, self._topic, self._sender.put)
        self._announcement = Announcement.of(config)
        self._answered = Answered()
        self._rate = RefusalRate()
        self._num_ignored = 0
        self._running: dict[Id, Asked] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Answer apps within the block; at its end, send what is left as far as that is quick."""
        loops = [self._sender.run(), self._board.run(), self._read()]
        tasks = [asyncio.create_task(loop, name="apps") for loop in loops]
        self._line.watch = self._connection_changed
        if self._line.connected:
            self._connection_changed(connected=True)
        try:
            with self._service.watched(self._notice):
                yield
                if self._tasks:  # their answers have ended
                    await asyncio.wait(self._tasks, timeout=FLUSH_SECONDS)
                self._board.show_stats()
                await self._sender.emptied(FLUSH_SECONDS)
        finally:
            self._line.watch = None
            for task in (*tasks, *self._tasks):
                task.cancel()
            await asyncio.gather(*tasks, *self._tasks, return_exceptions=True)

    # -- what happens -----------------------------------------------------------------------------------

    def _connection_changed(self, connected: bool) -> None:
        self._sender.connection_changed()
        if connected:
            self._board.show_all()
            self._announce()

    def _announce(self) -> None:
        message = self._announcement.message()
        if message is not None:
            self._sender.put(Outgoing(Kind.RETAINED, *message))

    def _notice(self, notice: Notice) -> None:
        match notice:
            case Taken() | Ended() | Changed():
                self._board.show_status()
            case Cloud(reached):
                self._board.show_status()
                self._tell(event("cloud_back" if reached else "cloud_lost"))
            case _:
                pass

    async def _read(self) -> None:
        while True:
            received = await self._line.received.get()
            try:
                await self._receive(received)
            except Exception:  # noqa: BLE001 - one message must not end the others' way in
                _log.exception("a message of an app could not be handled")
            await asyncio.sleep(FLOOD_PAUSE if self._rate.is_exhausted else 0)
            self._rate.is_exhausted = False

    async def _receive(self, received: Received) -> None:
        if received.topic == HOME_ASSISTANT_STATUS:
            if received.payload == b"online":
                self._board.show_all()
                self._announce()
            return
        name = received.topic.rpartition("/")[2]
        if received.retain:
            if received.payload:  # an empty one deletes what was retained
                self._refuse(f"a retained message has no effect on {name}: send it without retain", name)
            return
        match name:
            case "ask":
                await self._ask(received)
            case "set":
                self._set(received.payload)
            case _:
                self._cancel(received.payload)

    # -- asks -------------------------------------------------------------------------------------------

    async def _ask(self, received: Received) -> None:
        reply = reply_to(received.properties)
        if reply is not None and not self._topics.takes_reply(self._device, reply.topic):
            allowed = f"{self._topics.app(self._device, 'reply')}/NAME"
            self._refuse(f"the answer cannot be sent to this response topic: use one such as {allowed}", ASK)
            return
        try:
            ask = parse_ask(received.payload)
        except EchoError:
            self._note_ignored("the agent's own message came back as an ask")
            return
        except RefusalError as error:
            self._refuse(str(error), ASK, error.id, reply)
            return
        key = _key(ask, reply, received.payload)
        if not self._is_repeat(ask, key, reply):
            await self._take(ask, key, reply)

    def _is_repeat(self, ask: Ask, key: str | None, reply: ReplyTo | None) -> bool:
        """Whether this ask has its answer, or will have it."""
        if key is None:
            return False
        payload = self._answered.find(key, time.monotonic())
        if payload is not None:
            self._send_answer(payload, reply)
            return True
        running = None if ask.id is None else self._running.get(ask.id)
        if running is not None and running.key != key:
            self._refuse(
                "this id is that of another ask, which is being answered: use a new id", ASK, ask.id, None
            )
            return True
        return any(one.key == key for one in self._running.values())

    async def _take(self, ask: Ask, key: str | None, reply: ReplyTo | None) -> None:
        num_echoes = self._answered.num_echoes(_last_text(ask), time.monotonic())
        if num_echoes > MAX_ECHOES:
            reason = "this is the text of an answer to the text of an answer: an app seems to ask in a loop"
            self._refuse(reason, ASK, ask.id, reply)
            return
        options = cast("Options", ask.options)
        try:
            await self._service.prepare(way=WAY, **options)
            answer = self._service.ask(ask.prompt, way=WAY, **options)
        except AgentError as error:
            self._refuse(str(error), ASK, ask.id, reply)
            return
        id = answer.id if ask.id is None else ask.id
        asked = Asked(id, key, reply, num_echoes, self._line.num_connects, answer, ask.wants_json)
        self._running[id] = asked
        task = asyncio.create_task(
            self._answer(asked, self._stream(id) if ask.streams else None), name="answer"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _stream(self, id: Id) -> SendTokens:
        topic = self._topics.app_token(self._device, str(id))
        return lambda batch: self._sender.put(Outgoing(Kind.TOKENS, topic, write(batch)))

    async def _answer(self, asked: Asked, send_tokens: SendTokens | None) -> None:
        try:
            message = await followed(asked, send_tokens)
        finally:
            self._running.pop(asked.id, None)
        payload = write(message)
        if asked.key is not None or message["text"]:
            key = asked.key or asked.answer.id
            self._answered.add(key, payload, message["text"], asked.num_echoes, time.monotonic())
        was_away = not self._line.connected or self._line.num_connects != asked.num_connects
        self._send_answer(payload, asked.reply, time.monotonic() + READER_SECONDS if was_away else 0.0)
        self._board.show_last(message)
        self._tell(answered_event(message))

    def _send_answer(self, payload: bytes, reply: ReplyTo | None, wants_reader_until: float = 0.0) -> None:
        topic = self._topic(ANSWER) if reply is None else reply.topic
        correlation = None if reply is None else reply.correlation
        self._sender.put(Outgoing(Kind.ANSWER, topic, payload, correlation, wants_reader_until))

    # -- the rest ---------------------------------------------------------------------------------------

    def _set(self, payload: bytes) -> None:
        try:
            self._service.set(**cast("Defaults", parse_set(payload)))
        except AgentError as error:
            self._refuse(str(error), SET)

    def _cancel(self, payload: bytes) -> None:
        id = parse_cancel(payload)
        if id is None:
            is_ended = self._service.cancel()
        elif (asked := self._running.get(id)) is not None:
            asked.answer.cancel()
            is_ended = True
        else:
            is_ended = self._service.cancel(str(id))
        if not is_ended and id is not None:
            self._refuse("no answer has this id", CANCEL, id)

    def _refuse(self, reason: str, name: str, id: Id | None = None, reply: ReplyTo | None = None) -> None:
        """Report why a message has no effect; where the ask is known, also as its answer."""
        if not self._rate.allows(time.monotonic()):
            self._note_ignored(reason)
            return
        if name == ASK and (id is not None or reply is not None):
            topic = self._topic(ANSWER) if reply is None else reply.topic
            payload = write(refused_answer(id, reason))
            correlation = None if reply is None else reply.correlation
            self._sender.put(Outgoing(Kind.NOTE, topic, payload, correlation))
        self._tell(refused_event(reason, id, name))

    def _tell(self, message: Object) -> None:
        self._sender.put(Outgoing(Kind.NOTE, self._topic(EVENT), write(message)))

    def _note_ignored(self, reason: str) -> None:
        """Log the 1st, 2nd, 4th, 8th ... of a flood."""
        self._num_ignored += 1
        if is_logged(self._num_ignored):
            _log.warning("ignored a message of an app: %s; %d in all", reason, self._num_ignored)

    def _topic(self, name: str) -> str:
        return self._topics.app(self._device, name)


def _key(ask: Ask, reply: ReplyTo | None, payload: bytes) -> str | None:
    """The same for an ask that comes again; None where that cannot be known."""
    correlation = None if reply is None else reply.correlation
    if ask.id is None and correlation is None:
        return None
    return hashlib.sha256(repr((ask.id, correlation)).encode("utf-8", "replace") + payload).hexdigest()


def _last_text(ask: Ask) -> str:
    """What the model is to answer."""
    return ask.prompt if isinstance(ask.prompt, str) else str(ask.prompt[-1]["content"])
