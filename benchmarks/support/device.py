"""A device for load tests: the agent's real protocol code with a scripted draft model, and nothing to read.

Law: it sends what an agent sends and waits as an agent waits; only the model is replaced, so hundreds of
devices fit into one process.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache

from benchmarks.support.scripted import VOCAB_SIZE, VOCABULARY, Script, ScriptedDraft
from common.link import Link, LinkSettings
from common.protocol.codec import decode_to_device, encode
from common.protocol.fingerprint import fingerprint
from common.protocol.messages import Correction, Opening, Refusal
from common.protocol.topics import Topics
from common.sampling.distribution import Sampling
from edge_agent.policy.policy import Policy
from edge_agent.policy.schemes import SCHEMES
from edge_agent.session.session import EdgeSession
from edge_agent.session.settings import OnCloudLoss, SessionSettings

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
        session.start(time.monotonic())
        while not session.finished:
            patience = 0.0
            if session.wants_draft:
                await asyncio.sleep(draft_seconds)
                position = len(session.tokens)
                proposal = policy.propose(draft.logits(session.tokens), position)
                session.propose(proposal, time.monotonic(), draft_seconds)
                await self._send(session, session_name, sent_at)
            elif session.deadline is not None:
                patience = max(0.0, session.deadline - time.monotonic())
            while await self._receive(session, session_name, sent_at, patience):
                patience = 0.0  # what else has arrived
            session.tick(time.monotonic())
            await self._send(session, session_name, sent_at)
            self.num_tokens += len(session.take_final())
        self.failure = session.failure

    async def _send(self, session: EdgeSession, name: str, sent_at: dict[int, float]) -> None:
        topics = self.place.topics
        for outgoing in session.take_outgoing():
            if outgoing.worker is None:
                topic = topics.open(self.place.pool, self.name, name)
            else:
                topic = topics.draft(self.place.pool, outgoing.worker, self.name, name)
            n = getattr(outgoing.message, "n", None)
            if n is not None:
                sent_at.setdefault(n, time.monotonic())
            await self.link.send(topic, encode(outgoing.message), qos=int(outgoing.worker is None), expiry=30)

    async def _receive(
        self, session: EdgeSession, name: str, sent_at: dict[int, float], patience: float
    ) -> bool:
        """Hand over the next message; False when none came within `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                received = await self.link.receive()
        except TimeoutError:
            return False
        message = decode_to_device(received.payload)
        if self.place.topics.parse_correction(received.topic).session != name:
            return True
        self.num_refusals += isinstance(message, Refusal)
        if isinstance(message, Correction) and message.n in sent_at:
            self.latencies.append(time.monotonic() - sent_at.pop(message.n))
        session.receive(message, time.monotonic())
        return True
