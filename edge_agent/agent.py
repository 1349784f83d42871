"""EdgeAgent: a draft model and a link, ready to generate. The Python API of a device.

async with EdgeAgent.open(AgentConfig(broker="mqtt://broker")) as agent:
    async for token in agent.generate("turn on the kitchen light"):
        print(token.text, end="")
"""

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TypeAlias

from common.brief import brief
from common.codec import CodecError, decode_to_device, encode
from common.link import Delivery, Link, LinkStatistics
from common.log import about
from common.messages import Opening
from common.pages import Pages, made_in
from common.topics import Topics
from common.version import release
from edge_agent.config import AgentConfig, random_seed
from edge_agent.draft_model import DraftModel
from edge_agent.generation import Event, Generation, LinkEvent, NextTokenModel
from edge_agent.model_files import ModelError, ModelInfo, read_info
from edge_agent.model_source import resolve
from edge_agent.session import EdgeSession, Outgoing
from edge_agent.session_settings import OnCloudLoss
from edge_agent.text import StopStrings, Text
from edge_agent.totals import Totals

EXPIRY = 30  # seconds that the broker keeps a draft for a worker that is away

Message: TypeAlias = Mapping[str, object]

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # what Python makes of bytes that are no text

_log = logging.getLogger(__name__)


class EdgeAgent:
    """One device. Generations run one at a time; a second waits for the first. Use `open`."""

    def __init__(
        self,
        config: AgentConfig,
        info: ModelInfo,
        model: NextTokenModel,
        link: Link | None,
        inboxes: "dict[str, asyncio.Queue[Event]]",
    ) -> None:
        self.config = config
        self.text = Text.load(info)
        self._info = info
        self._model = model
        self._link = link
        self._topics = Topics(config.root)
        self._turn = asyncio.Lock()
        self._inboxes = inboxes
        self._sending: set[asyncio.Task[None]] = set()
        self._is_pool_empty = False
        self._totals = Totals()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, config: AgentConfig, *, model: NextTokenModel | None = None
    ) -> AsyncGenerator["EdgeAgent"]:
        """Load the model and connect; raises ModelError or LinkError with a sentence for the user.

        `model` is used in place of the config's graph; text and settings still come from the config's folder.
        """
        info = read_info(resolve(config.model, model_file=config.model_file), config.model_file)
        model = model or DraftModel.load(
            info.folder,
            model_file=config.model_file,
            num_threads=config.num_threads,
            providers=config.providers,
        )
        if not config.needs_cloud:
            agent = cls(config, info, model, None, {})
            with agent._metrics():
                yield agent
            return
        inboxes: dict[str, asyncio.Queue[Event]] = {}

        def tell(connected: bool) -> None:
            for inbox in inboxes.values():
                inbox.put_nowait(LinkEvent.UP if connected else LinkEvent.DOWN)

        device = config.device_name
        link = Link(
            config.link_settings(f"edge-{device}-{secrets.token_hex(3)}"),
            subscriptions=[Topics(config.root).correction_filter(device)],
            wait_for_broker=config.on_cloud_loss != OnCloudLoss.FAIL.value,
            on_state=tell,
        )
        async with link:
            agent = cls(config, info, model, link, inboxes)
            reader = asyncio.create_task(agent._read(link), name="reader")
            try:
                with agent._metrics():
                    yield agent
            finally:
                reader.cancel()
                await asyncio.gather(reader, *agent._sending, return_exceptions=True)

    @property
    def link_statistics(self) -> LinkStatistics:
        """Messages and bytes since the agent began, as they crossed the network."""
        return self._link.statistics if self._link else LinkStatistics()

    def generate(self, prompt: str | Sequence[Message], *, seed: int | None = None) -> Generation:
        """A generation to iterate over. `prompt` is a text, or chat messages as in OpenAI's API.

        A text becomes a user message where the model has a chat template, unless the config says `raw`.
        Raises ModelError for a prompt that is empty or too long.
        """
        tokens = self._encode(prompt)
        sampling = self.config.sampling(self._info.sampling)
        seed = next(value for value in (seed, self.config.seed, random_seed()) if value is not None)
        opening = Opening(self.text.fingerprint, self.text.vocab_size, sampling, seed)
        settings = self.config.session_settings(opening, self._info.eos_ids, self._model.max_positions)
        name = secrets.token_hex(4)
        inbox: asyncio.Queue[Event] = asyncio.Queue()
        session = EdgeSession(tokens, settings)

        @asynccontextmanager
        async def turn() -> AsyncGenerator[None]:
            async with self._turn:
                self._inboxes[name] = inbox
                if self._link is not None and not self._link.connected:
                    inbox.put_nowait(LinkEvent.DOWN)
                try:
                    with self._totals.counting(session):
                        yield
                finally:
                    del self._inboxes[name]
                    with about(session=name):
                        _log.info("%s: %d tokens, %d uplinks", *_outcome(session))

        async def send(outgoing: Outgoing) -> None:
            with about(session=name):
                await self._send(name, outgoing)

        return Generation(
            session=session,
            policy=self.config.policy(sampling, seed),
            model=self._model,
            turn=turn,
            send=send,
            inbox=inbox,
            stream=self.text.stream(tokens),
            stops=StopStrings(self.config.stop),
            vocab_size=self.text.vocab_size,
        )

    def explain(self, failure: str) -> str:
        """A generation's failure with what the agent knows of the link and the pool."""
        if self._link is not None and not self._link.connected:
            return f"{failure}: no connection to {self.config.broker}"
        if self._is_pool_empty:
            return f"{failure}: nobody serves pool {self.config.pool}; start a worker (cloud-worker run)"
        return failure

    @contextmanager
    def _metrics(self) -> Generator[None]:
        """Serve /metrics while the agent is there, if it is wanted; PagesError when that cannot be."""
        config = self.config
        if not config.metrics_port:
            yield
            return
        from edge_agent.metrics import Metrics, Reading  # costs a device nothing otherwise

        def read() -> Reading:
            return Reading(
                self._totals, self.link_statistics, self._link is not None and self._link.connected
            )

        facts = {"device": config.device_name, "pool": config.pool, "scheme": config.scheme}
        metrics = Metrics(read, {**facts, "model": config.model, "version": release()})
        page = partial(made_in, asyncio.get_running_loop(), metrics.page)
        with Pages(config.metrics_host, config.metrics_port, {"/metrics": page}):
            yield

    def _encode(self, prompt: str | Sequence[Message]) -> list[int]:
        texts = [prompt] if isinstance(prompt, str) else [str(message.get("content")) for message in prompt]
        if any(_HALF_CHARACTER.search(text) for text in texts):
            raise ModelError("the prompt is not valid Unicode: it holds bytes or surrogates that are no text")
        if not isinstance(prompt, str):
            tokens = self.text.chat_prompt(prompt)
        elif self.text.has_chat_template and not self.config.raw:
            tokens = self.text.chat_prompt([{"role": "user", "content": prompt}])
        else:
            tokens = self.text.encode(prompt)
        if not tokens:
            raise ModelError("the prompt is empty: give the model something to continue")
        if len(tokens) >= self._model.max_positions:
            raise ModelError(
                f"the prompt has {len(tokens)} tokens, but the draft model takes {self._model.max_positions} "
                "together with the answer: shorten it"
            )
        return tokens

    async def _send(self, session: str, outgoing: Outgoing) -> None:
        assert self._link is not None
        try:
            payload = encode(outgoing.message)
        except ValueError as error:
            raise ModelError(
                f"a draft cannot be sent: {error}; shorten the prompt, or use lossless"
            ) from error
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s, to %s", brief(outgoing.message), outgoing.worker or "any worker")
        device, pool = self.config.device_name, self.config.pool
        if outgoing.worker is None:
            # the broker's answer takes a round trip; drafting goes on meanwhile
            task = asyncio.create_task(self._open(session, payload), name="open")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            return
        topic = self._topics.draft(pool, outgoing.worker, device, session)
        await self._link.send(topic, payload, expiry=EXPIRY)

    async def _open(self, session: str, payload: bytes) -> None:
        assert self._link is not None
        topic = self._topics.open(self.config.pool, self.config.device_name, session)
        delivery = await self._link.send(topic, payload, qos=1, expiry=EXPIRY)
        inbox = self._inboxes.get(session)
        self._note_missing_worker(delivery)
        if inbox is not None and delivery is Delivery.NO_SUBSCRIBERS:
            inbox.put_nowait(LinkEvent.NO_WORKER)
        elif inbox is not None and delivery is Delivery.REFUSED:
            inbox.put_nowait(LinkEvent.FORBIDDEN)

    def _note_missing_worker(self, delivery: Delivery) -> None:
        """Say it once for each time that the pool is empty."""
        if delivery is Delivery.NO_SUBSCRIBERS and not self._is_pool_empty:
            _log.warning("no worker listens in pool %s; asking again", self.config.pool)
            self._is_pool_empty = True

    async def _read(self, link: Link) -> None:
        async for received in link:
            try:
                session = self._topics.parse_correction(received.topic).session
            except ValueError as error:
                self._cannot_read(error)
                continue
            with about(session=session):
                self._receive(session, received.payload)

    def _receive(self, session: str, payload: bytes) -> None:
        try:
            message = decode_to_device(payload)
        except CodecError as error:
            self._cannot_read(error)
            return
        self._is_pool_empty = False
        self._totals.answered(message)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s", brief(message))
        if session in self._inboxes:
            self._inboxes[session].put_nowait(message)

    def _cannot_read(self, error: ValueError | CodecError) -> None:
        """Log the 1st, 2nd, 4th, 8th ... of a flood."""
        self._totals.num_unreadable = num_unread = self._totals.num_unreadable + 1
        if num_unread & (num_unread - 1) == 0:
            _log.warning("ignored an answer that cannot be read: %s; %d in all", error, num_unread)


def _outcome(session: EdgeSession) -> tuple[str, int, int]:
    """What became of a generation, for the log."""
    return session.failure or "answered", session.tally.num_tokens, session.tally.num_uplinks
