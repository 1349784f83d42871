"""A device for load tests: the agent's real protocol code with a scripted draft model, and nothing to read.

Law: it sends what an agent sends and waits as an agent waits; only the model is replaced, so hundreds of
devices fit into one process.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache

from benchmarks.support.scripted import VOCAB_SIZE, VOCABULARY, Script, ScriptedDraft
from common.link import Link, LinkSettings
from common.protocol.codec import decode_to_device, encode
from common.protocol.fingerprint import fingerprint
from common.protocol.messages import Correction, Opening, Refusal, ToDevice
from common.protocol.topics import Topics
from common.sampling.distribution import Sampling
from edge_agent.policy.policy import Policy
from edge_agent.policy.schemes import SCHEMES
from edge_agent.session.events import Drafted, Event
from edge_agent.session.send_window import Outgoing
from edge_agent.session.session import EdgeSession
from edge_agent.session.settings import OnCloudLoss, SessionSettings
from edge_agent.session.step import advance

PROMPT = tuple(range(1, 65))


@dataclass(frozen=True, slots=True)
class Place:
    """The pool that a device talks to, and the vocabulary that it says it has."""

    pool: str = "demo"
    tokenizer: bytes = fingerprint(VOCABULARY)
    vocab_size: int = VOCAB_SIZE
    topics: Topics = field(default_factory=Topics)


@cache
def _script(vocab_size: int) -> Script:
    return Script(vocab_size=vocab_size)


def certain(_logits: object, _token: int, _seed: int, _position: int) -> float:
    """No uncertainty: only a block's length flushes it."""
    return 0.0


@dataclass(slots=True)
class Device:
    """One connection, one session after another; `latencies` are its drafts' round trips in seconds."""

    name: str
    link: Link
    place: Place = field(default_factory=Place)
    latencies: list[float] = field(default_factory=list)
    num_tokens: int = 0
    num_refusals: int = 0
    failure: str | None = None  # of the last generation

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: LinkSettings, name: str, place: Place | None = None
    ) -> AsyncGenerator["Device"]:
        """Connect as an agent does."""
        place = place or Place()
        async with Link(settings, subscriptions=[place.topics.correction_filter(name)]) as link:
            yield cls(name, link, place)

    async def generate(
        self, max_tokens: int, *, block_length: int, window: int = 1, draft_seconds: float = 0.0
    ) -> None:
        """One lossless generation; `draft_seconds` is how long each draft token takes."""
        session_name, seed = secrets.token_hex(4), secrets.randbits(32)
        opening = Opening(self.place.tokenizer, self.place.vocab_size, Sampling(), seed)
        draft = ScriptedDraft(_script(self.place.vocab_size))
        session = EdgeSession(
            PROMPT,
            SessionSettings(
                opening,
                stop_ids=frozenset(),
                max_tokens=max_tokens,
                max_positions=1 << 16,
                window=window,
                block_length=block_length,
                on_cloud_loss=OnCloudLoss.WAIT,
            ),
        )
        policy = Policy(SCHEMES["lossless"], opening.sampling, seed, threshold=1.0, estimator=certain)
        sent_at: dict[int, float] = {}
        step = advance(session, time.monotonic())
        while True:
            tokens = session.begin_draft()
            await self._send(step.messages, session_name, sent_at)
            self.num_tokens += len(step.finals)
            if step.finished:
                break
            events: list[Event] = []
            if tokens is not None:
                await asyncio.sleep(draft_seconds)
                proposal = policy.propose(draft.logits(tokens), len(tokens))
                events.append(Drafted(proposal, draft_seconds))
                patience = 0.0
            else:
                patience = max(0.0, (step.deadline or 0.0) - time.monotonic())
            events += await self._received(session_name, sent_at, patience)
            step = advance(session, time.monotonic(), events)
        self.failure = session.failure

    async def _send(self, messages: Iterable[Outgoing], name: str, sent_at: dict[int, float]) -> None:
        topics = self.place.topics
        for outgoing in messages:
            if outgoing.worker is None:
                topic = topics.open(self.place.pool, self.name, name)
            else:
                topic = topics.draft(self.place.pool, outgoing.worker, self.name, name)
            n = getattr(outgoing.message, "n", None)
            if n is not None:
                sent_at.setdefault(n, time.monotonic())
            await self.link.send(topic, encode(outgoing.message), qos=int(outgoing.worker is None), expiry=30)

    async def _received(self, name: str, sent_at: dict[int, float], patience: float) -> list[ToDevice]:
        """What has arrived for this session, after waiting `patience` seconds for the first message."""
        arrived: list[ToDevice] = []
        while True:
            try:
                async with asyncio.timeout(patience):
                    received = await self.link.receive()
            except TimeoutError:
                return arrived
            patience = 0.0  # what else has arrived
            message = decode_to_device(received.payload)
            if self.place.topics.parse_correction(received.topic).session != name:
                continue
            self.num_refusals += isinstance(message, Refusal)
            if isinstance(message, Correction) and message.n in sent_at:
                self.latencies.append(time.monotonic() - sent_at.pop(message.n))
            arrived.append(message)
