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

from benchmarks.scripted import VOCAB_SIZE, VOCABULARY, Script, ScriptedDraft
from common.codec import decode_to_device, encode
from common.distribution import Sampling
from common.fingerprint import fingerprint
from common.link import Link, LinkSettings
from common.messages import Correction, Opening
from common.topics import Topics
from edge_agent.policy import Policy
from edge_agent.schemes import SCHEMES
from edge_agent.session import EdgeSession
from edge_agent.session_settings import OnCloudLoss, SessionSettings

POOL = "demo"
PROMPT = tuple(range(1, 65))


def certain(_logits: object, _token: int, _seed: int, _position: int) -> float:
    """No uncertainty: only a block's length flushes it."""
    return 0.0


@dataclass(slots=True)
class Device:
    """One connection, one session after another; `latencies` are its drafts' round trips in seconds."""

    name: str
    link: Link
    latencies: list[float] = field(default_factory=list)
    num_tokens: int = 0
    _topics: Topics = field(default_factory=Topics)
    _draft: ScriptedDraft = field(default_factory=lambda: ScriptedDraft(Script()))

    @classmethod
    @asynccontextmanager
    async def open(cls, broker_url: str, name: str) -> AsyncGenerator["Device"]:
        """Connect as an agent does."""
        settings = LinkSettings(url=broker_url)
        async with Link(settings, subscriptions=[Topics().correction_filter(name)]) as link:
            yield cls(name, link)

    async def generate(
        self, max_tokens: int, *, block_length: int, window: int = 1, draft_seconds: float = 0.0
    ) -> None:
        """One lossless generation; `draft_seconds` is how long each draft token takes."""
        session_name, seed = secrets.token_hex(4), secrets.randbits(32)
        opening = Opening(fingerprint(VOCABULARY), VOCAB_SIZE, Sampling(), seed)
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
            while session.wants_draft:
                await asyncio.sleep(draft_seconds)
                position = len(session.tokens)
                proposal = policy.propose(self._draft.logits(session.tokens), position)
                session.propose(proposal, time.monotonic(), draft_seconds)
                await self._send(session, session_name, sent_at)
            await self._receive(session, session_name, sent_at)
            await self._send(session, session_name, sent_at)
            self.num_tokens += len(session.take_final())

    async def _send(self, session: EdgeSession, name: str, sent_at: dict[int, float]) -> None:
        for outgoing in session.take_outgoing():
            if outgoing.worker is None:
                topic = self._topics.open(POOL, self.name, name)
            else:
                topic = self._topics.draft(POOL, outgoing.worker, self.name, name)
            n = getattr(outgoing.message, "n", None)
            if n is not None:
                sent_at.setdefault(n, time.monotonic())
            await self.link.send(topic, encode(outgoing.message), qos=int(outgoing.worker is None), expiry=30)

    async def _receive(self, session: EdgeSession, name: str, sent_at: dict[int, float]) -> None:
        if session.deadline is None:
            return
        try:
            async with asyncio.timeout(max(0.0, session.deadline - time.monotonic())):
                received = await self.link.receive()
        except TimeoutError:
            session.tick(time.monotonic())
            return
        message = decode_to_device(received.payload)
        if self._topics.parse_correction(received.topic).session != name:
            return
        if isinstance(message, Correction) and message.n in sent_at:
            self.latencies.append(time.monotonic() - sent_at.pop(message.n))
        session.receive(message, time.monotonic())
