"""Recorded texts drafted again in virtual time, with the real session, scheduler and simulation.

Law: only the models are replaced. A recorded draft token is proposed with its uncertainty, and the target
agrees with it or not, as recorded. What is drafted in vain after a rejection is like the text that follows.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import simpy

from benchmarks.drafting_ahead.records import Record
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.scheduling.scheduler import Answer, SessionKey
from common.protocol.messages import DraftToken, Opening, ToWorker
from common.protocol.topics import Topics
from common.sampling.distribution import Sampling
from edge_agent.assembly import build_tuner
from edge_agent.policy.policy import Decision, Proposal
from edge_agent.session.pacing import Experience
from edge_agent.session.session import EdgeSession
from evaluation.models.cached_logits import CachedTarget, Rows, RowStore
from evaluation.simulate.variants import Variant
from evaluation.simulate.world.accounting import Wire
from evaluation.simulate.world.channel import Channel, Direction
from evaluation.simulate.world.compute import Compute
from evaluation.simulate.world.device import Device, Outcome, Proposals
from evaluation.simulate.world.worker import SimulatedWorker

PROMPTED, ACCEPTED, REJECTED, CORRECTED = range(4)  # all the tokens that there are
VOCAB_SIZE = 4
TOKENIZER = b"replayed"
LONGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class Replayed:
    """Texts of one kind by one variant: what counts."""

    num_tokens: int
    num_uplinks: int
    num_resent: int
    seconds: float
    worker_seconds: float

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.num_tokens / self.seconds

    @property
    def uplink_rate(self) -> float:
        """Drafts per token."""
        return self.num_uplinks / self.num_tokens

    @property
    def worker_ms(self) -> float:
        """Milliseconds of the worker per token."""
        return 1000 * self.worker_seconds / self.num_tokens


class _Target:
    """The target model of one record: it wants what was recorded at each position."""

    vocab_size = VOCAB_SIZE
    max_positions = LONGEST

    def __init__(self, record: Record) -> None:
        self.vocabulary: Mapping[str, int] = {str(token): token for token in range(VOCAB_SIZE)}
        self.eos_ids = frozenset[int]()
        self._record = record

    def logits(self, passes: Sequence[Pass]) -> list[Rows]:
        """See `TargetLike`."""
        return [self._rows(one) for one in passes]

    def forget(self, session: object) -> None:
        """See `TargetLike`."""

    def _rows(self, one: Pass) -> Rows:
        rows = np.zeros((one.num_rows, VOCAB_SIZE), np.float32)
        for row in range(one.num_rows):
            index = len(one.tokens) - one.num_rows + row + 1 - self._record.num_prompt
            known = self._record.tokens[index : index + 1]
            rows[row, CORRECTED if known and not known[0].is_kept else ACCEPTED] = 1.0
        return rows


class _Proposals(Proposals):
    """The draft model and the gate of one record."""

    def __init__(self, record: Record, variant: Variant) -> None:
        self._record, self._scheme = record, variant.scheme

    def propose(self, tokens: Sequence[int]) -> Proposal:
        """See `Proposals`."""
        one = self._record.tokens[len(tokens) - self._record.num_prompt]
        asks = one.uncertainty > self._scheme.threshold
        otherwise = Decision.HOLD if self._scheme.holds else Decision.SKIP
        token = DraftToken(ACCEPTED if one.is_kept else REJECTED)
        return Proposal(token, 1.0, one.uncertainty, Decision.UPLINK if asks else otherwise)


def replay(records: Sequence[Record], variant: Variant, compute: Compute, round_trip: float) -> Replayed:
    """Draft the texts in turn on one device, with a worker of its own."""
    env = simpy.Environment()
    workers: list[SimulatedWorker] = []
    topics = Topics()
    direction = Direction(delay=round_trip / 2)

    def deliver(topic: str, message: ToWorker) -> None:
        uplink = topics.parse_uplink(topic)
        workers[-1].receive(SessionKey(uplink.device, uplink.session), message)

    def send(answer: Answer) -> None:
        device.answer(answer.key.session, answer.message)

    tuner = build_tuner(variant.config)
    wire = Wire(VOCAB_SIZE, tcp=True)
    device = Device("device", env, variant, Channel(direction, direction), compute, wire, deliver, tuner)
    outcomes: list[Outcome] = []

    def run() -> Generator[simpy.Event, Any, None]:
        for number, record in enumerate(records):
            target = CachedTarget(_Target(record), RowStore())
            workers.append(SimulatedWorker(env, target, TOKENIZER, compute, send))
            session = _session(record, variant, tuner.experience)
            outcome = yield from device.generate(f"{number:08x}", session, _Proposals(record, variant))
            if [token != CORRECTED for token in outcome.tokens] != [one.is_kept for one in record.tokens]:
                raise RuntimeError(f"the text of {variant} is not the recorded one")
            outcomes.append(outcome)

    env.run(env.process(run()))
    return Replayed(
        num_tokens=sum(len(one.finals) for one in outcomes),
        num_uplinks=sum(one.tally.num_uplinks for one in outcomes),
        num_resent=sum(one.tally.num_resent for one in outcomes),
        seconds=sum(one.seconds for one in outcomes),
        worker_seconds=sum(worker.busy_seconds for worker in workers),
    )


def _session(record: Record, variant: Variant, experience: Experience) -> EdgeSession:
    opening = Opening(TOKENIZER, VOCAB_SIZE, Sampling(temperature=0.0), seed=1)
    settings = variant.settings(opening, frozenset(), LONGEST, experience)
    settings = replace(settings, wants_bonus=False, max_tokens=len(record.tokens))
    return EdgeSession([PROMPTED] * record.num_prompt, settings)
