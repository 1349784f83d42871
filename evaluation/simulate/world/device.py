"""A device in virtual time: the agent's session and policy, driven by the agent's own steps.

Law: it sends, waits and gives up as an agent does. The clock is the simulation's, the logits are real.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import simpy

from cloud_worker.passes.forward_pass import common_prefix
from common.protocol.codec import decode_to_worker, encode
from common.protocol.messages import Correction, Draft, ToDevice, ToWorker
from common.protocol.topics import Topics
from common.sampling.distribution import fit_vocabulary
from edge_agent.generation.drafting import NextTokenModel
from edge_agent.policy.policy import Policy, Proposal
from edge_agent.session.events import Drafted, Event
from edge_agent.session.send_window import Outgoing
from edge_agent.session.session import EdgeSession
from edge_agent.session.step import advance
from edge_agent.session.tally import Tally
from edge_agent.session.transcript import Fate, FinalToken
from edge_agent.tuning.tuner import Numbers, Tuner
from evaluation.models.cached_logits import prefix_keys
from evaluation.simulate.variants import Variant
from evaluation.simulate.world.accounting import PAPERS_VOCAB_SIZE, Accounting, Papers
from evaluation.simulate.world.channel import Channel, Line
from evaluation.simulate.world.compute import Compute
from evaluation.simulate.world.virtual_time import later

POOL = "demo"


@dataclass(slots=True)
class Traffic:
    """What one generation sent and received; bytes as the accounting counts them."""

    num_up: int = 0
    num_down: int = 0
    bytes_up: float = 0.0
    bytes_down: float = 0.0
    payload_bytes: int = 0  # going up, as encoded
    papers_bytes: float = 0.0  # going up, as the papers count them, whatever the accounting
    draft_seconds: float = 0.0  # for which the draft model worked
    num_sent: int = 0  # draft tokens that went up to be verified, the void ones too


@dataclass(frozen=True, slots=True)
class Outcome:
    """One simulated generation. `times[i]` is when token i became final, in seconds after its start.

    `numbers` are those that the agent chose for it.
    """

    prompt: tuple[int, ...]
    seed: int
    numbers: Numbers
    finals: tuple[FinalToken, ...]
    times: tuple[float, ...]
    seconds: float
    traffic: Traffic
    tally: Tally

    @property
    def tokens(self) -> list[int]:
        """The text, its end mark included."""
        return [final.token for final in self.finals]

    @property
    def fates(self) -> list[Fate]:
        """Where each token came from."""
        return [final.fate for final in self.finals]


Known: TypeAlias = dict[Policy, dict[bytes, Proposal]]  # by policy without its gate, then by prefix


def without_gate(policy: Policy) -> Policy:
    """Return what the draft token and its uncertainty depend on, equal for policies with other gates."""
    return replace(policy, threshold=0.0, uplink_probability=0.0)


class Proposals:
    """A policy with the draft model behind it; what it proposed for a prefix is proposed again.

    `known` may be shared by policies that differ in their gate: the decision is made here.
    """

    def __init__(
        self, policy: Policy, model: NextTokenModel, vocab_size: int, known: dict[bytes, Proposal]
    ) -> None:
        self._policy, self._model, self._vocab_size, self._known = policy, model, vocab_size, known

    @property
    def threshold(self) -> float:
        """Of the policy."""
        return self._policy.threshold

    def propose(self, tokens: Sequence[int]) -> Proposal:
        """For the position after `tokens`."""
        (key,) = prefix_keys(tokens)
        if key not in self._known:
            logits = fit_vocabulary(self._model.logits(tokens), self._vocab_size)
            self._known[key] = self._policy.propose(logits, len(tokens))
        found = self._known[key]
        decision = self._policy.decide(found.uncertainty, len(tokens))
        return found if found.decision is decision else replace(found, decision=decision)


@dataclass(frozen=True, slots=True)
class Drafting:
    """The draft model at work on what follows `tokens`, until `due`."""

    tokens: list[int]
    seconds: float
    due: simpy.Event


class Device:
    """One device and its link; `deliver(topic, message)` takes what has crossed the link to the workers.

    What it learns over its life is in `tuner`; audits, which come after a text, are left out.
    """

    def __init__(
        self,
        name: str,
        env: simpy.Environment,
        variant: Variant,
        channel: Channel,
        compute: Compute,
        accounting: Accounting,
        deliver: Callable[[str, ToWorker], None],
        tuner: Tuner,
    ) -> None:
        self.name = name
        self.tuner = tuner
        self._env, self._variant, self._compute = env, variant, compute
        self._accounting, self._deliver = accounting, deliver
        self._papers = Papers(PAPERS_VOCAB_SIZE)
        self._topics = Topics()
        self._up = Line(channel.up, channel.seed)
        self._down = Line(channel.down, channel.seed + 1)
        self._session = ""
        self._inbox = simpy.Store(env)
        self._traffic = Traffic()
        self._drafts: dict[int, Draft] = {}  # those sent, by their numbers

    def generate(
        self, name: str, session: EdgeSession, proposals: Proposals
    ) -> Generator[simpy.Event, Any, Outcome]:
        """One generation; `name` is the session's on the wire.

        `proposals` are made with the numbers that `tuner` gives now.
        """
        env, began, numbers = self._env, self._env.now, self.tuner.numbers()
        self._session, self._traffic, self._drafts = name, Traffic(), {}
        self._inbox = simpy.Store(env)
        prompt = tuple(session.tokens)
        finals: list[FinalToken] = []
        times: list[float] = []
        read: list[int] = []
        drafting: Drafting | None = None
        step = advance(session, env.now)
        while True:
            tokens = session.begin_draft()
            if tokens is not None:
                seconds = self._compute.draft(max(1, len(tokens) - common_prefix(read, tokens)))
                drafting, read = Drafting(tokens, seconds, env.timeout(seconds)), tokens
                self._traffic.draft_seconds += seconds
            for outgoing in step.messages:
                self._send(outgoing)
            finals += step.finals
            times += [env.now - began] * len(step.finals)
            if step.finished:
                break
            events: list[Event] = yield from self._wait(step.deadline, drafting)
            if drafting is not None and drafting.due.processed:
                events.append(Drafted(proposals.propose(drafting.tokens), drafting.seconds))
                drafting = None
            step = advance(session, env.now, events)
        self.tuner.ended(session.tally, session.pacing.experience)
        if session.failure is not None:
            raise RuntimeError(f"a simulated generation failed: {session.failure}")
        seconds = env.now - began
        return Outcome(prompt, 0, numbers, tuple(finals), tuple(times), seconds, self._traffic, session.tally)

    def _wait(
        self, deadline: float | None, drafting: Drafting | None
    ) -> Generator[simpy.Event, Any, list[Event]]:
        """Until something arrives, the draft model returns or the deadline passes; what has arrived."""
        arrival, awaited = self._inbox.get(), list[simpy.Event]()
        if drafting is not None:
            awaited.append(drafting.due)
        if deadline is not None:
            awaited.append(self._env.timeout(max(0.0, deadline - self._env.now)))
        yield simpy.AnyOf(self._env, [arrival, *awaited])
        if not arrival.triggered:
            arrival.cancel()
            return []
        arrived: list[Event] = [cast("ToDevice", arrival.value)]
        while self._inbox.items:
            arrived.append((yield self._inbox.get()))
        return arrived

    def _send(self, outgoing: Outgoing) -> None:
        """As `Exchange.send` on a device; the worker side gets what was decoded from the bytes."""
        is_open = outgoing.worker is None
        if is_open:
            topic = self._topics.open(POOL, self.name, self._session)
        else:
            topic = self._topics.draft(POOL, str(outgoing.worker), self.name, self._session)
        payload = encode(outgoing.message)
        counted, extra = self._variant.counted(outgoing.message)
        written = payload if counted is outgoing.message else encode(counted)
        num_bytes = self._accounting.up(counted, written, topic, int(is_open), extra)
        if isinstance(outgoing.message, Draft):
            self._drafts[outgoing.message.n] = outgoing.message
            self._traffic.num_sent += len(outgoing.message.block)
            key = (self._session, outgoing.message.n)
            self.tuner.link.sent(key, len(payload), self._env.now)
        self._traffic.num_up += 1
        self._traffic.bytes_up += num_bytes
        self._traffic.payload_bytes += len(written)
        self._traffic.papers_bytes += self._papers.up(counted, written, topic, int(is_open), extra)
        arrives = self._up.send(num_bytes, self._env.now)
        later(self._env, arrives - self._env.now, lambda: self._deliver(topic, decode_to_worker(payload)))

    def answer(self, session: str, message: ToDevice) -> None:
        """The broker has something for this device; it is there when the way down has carried it."""
        draft = self._drafts.get(message.n) if message.n is not None else None
        extra = self._variant.counted_down(message, draft)
        topic = self._topics.correction(self.name, session)
        num_bytes = self._accounting.down(message, topic, extra)
        if session == self._session:
            self._traffic.num_down += 1
            self._traffic.bytes_down += num_bytes
        arrives = self._down.send(0.0 if self._accounting.is_down_free else num_bytes, self._env.now)
        later(self._env, arrives - self._env.now, lambda: self._arrive(session, message))

    def _arrive(self, session: str, message: ToDevice) -> None:
        if isinstance(message, Correction) and message.index == 0:
            key = (session, message.n)
            self.tuner.link.answered(key, message.compute_ms / 1000, self._env.now)
        if session == self._session:  # the others are over
            self._inbox.put(message)
