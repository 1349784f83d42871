"""One way over one link in virtual time: what it cost, and how fast it was.

Law: sessions, scheduler, codec and judging are the real ones on the real pair's logits; models and link take
the times that were measured or given. All prompts follow one another on one device, beside no other.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from evaluation.models.pair import Pair
from evaluation.simulate.measures import skipped_tokens
from evaluation.simulate.running import Prompt, Simulation, World
from evaluation.simulate.study import BROKER_SECONDS
from evaluation.simulate.world.accounting import Wire
from evaluation.simulate.world.channel import Channel, Direction, FixedRate
from evaluation.simulate.world.compute import Compute


@dataclass(frozen=True, slots=True)
class Cost:
    """The sums over all texts of one way; seconds and bytes. `drift` is the rejection mass skipped."""

    num_tokens: int
    seconds: float
    first_token: float  # the median
    pass_seconds: float
    judging_seconds: float
    num_positions: int
    draft_seconds: float
    bytes_up: float
    bytes_down: float
    num_uplinks: int
    num_tested: int
    num_accepted: int
    drift: float

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.num_tokens / self.seconds

    def per_thousand(self, total: float) -> float:
        """Return a sum per 1,000 tokens."""
        return 1000 * total / self.num_tokens

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return what `to_json` wrote."""
        return cls(**values)


def world(pair: Pair, compute: Compute, round_trip: float, rate_mbps: float) -> World:
    """Return a world with a link of this round trip in seconds, and of this rate both ways."""
    direction = Direction(FixedRate(1e6 * rate_mbps), round_trip / 2)
    return World(
        lambda seed: Channel(direction, direction, seed),
        compute,
        lambda: Wire(pair.vocab_size, tcp=True),
        broker_seconds=BROKER_SECONDS,
    )


def run(simulation: Simulation, prompts: Sequence[Prompt], where: World, *, measures_drift: bool) -> Cost:
    """Generate all prompts in turn; `measures_drift`: compare what was skipped with the target."""
    (outcomes,) = simulation.run([prompts], where)
    worker = simulation.worker
    assert worker is not None
    skipped = [skipped_tokens(simulation, each) for each in outcomes] if measures_drift else []
    tallies = [each.tally for each in outcomes]
    return Cost(
        num_tokens=sum(len(each.finals) for each in outcomes),
        seconds=sum(each.seconds for each in outcomes),
        first_token=float(np.median([each.times[0] for each in outcomes])),
        pass_seconds=worker.busy_seconds,
        judging_seconds=worker.judging_seconds,
        num_positions=worker.num_positions,
        draft_seconds=sum(each.traffic.draft_seconds for each in outcomes),
        bytes_up=sum(each.traffic.bytes_up for each in outcomes),
        bytes_down=sum(each.traffic.bytes_down for each in outcomes),
        num_uplinks=sum(each.num_uplinks for each in tallies),
        num_tested=sum(each.num_tested for each in tallies),
        num_accepted=sum(each.num_accepted for each in tallies),
        drift=sum(risk for text in skipped for risk, _ in text),
    )
