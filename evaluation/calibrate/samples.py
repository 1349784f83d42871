"""What was measured of draft tokens, as columns: uncertainty, rejection probability, distance. Pure values.

Law: a row is a draft token as the agent would have drawn it, judged by the target model at the same prefix.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.sampling.distribution import IntArray
from common.sampling.randomness import FloatArray

TARGET, HYBRID = "target", "hybrid"  # the text that a walk follows
SENT_LEVELS = (0.01, 0.02, 0.05, 0.08, 0.2, 0.5)  # thresholds for k* from the tokens that are sent
COSTED_KS = (1, 2, 4, 8, 16, 30)
COSTS = ("truncation", "rounding", "bias")  # see `truncation_costs`


@dataclass(frozen=True, slots=True)
class Seen:
    """One draft token: x is the draft distribution, q what would be sent of it, y the target distribution.

    `rejection` is beta = max(0, 1 - y_d / q_d), `distance` TV(q, y), `untruncated_distance` TV(x, y), and
    `below` whether y_d < x_d.
    """

    uncertainty: Mapping[str, float]
    rejection: float
    distance: float
    untruncated_distance: float
    below: bool
    accepted: bool


@dataclass(slots=True)
class Times:
    """How long the models took: seconds per draft token, and of the target's passes by their rows."""

    draft_steps: list[float] = field(default_factory=list[float])
    passes: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])

    def drafted(self, seconds: float) -> None:
        """A token was drafted."""
        self.draft_steps.append(seconds)

    def read(self, num_rows: int, seconds: float) -> None:
        """The target has read `num_rows` tokens; the first pass of a walk reads the prompt too."""
        self.passes.append((num_rows, seconds))

    @property
    def num_passes(self) -> int:
        """Forward passes of the target model."""
        return len(self.passes)


@dataclass(frozen=True, slots=True)
class Walk:
    """One walk through an answer: its draft tokens, and sums over them of what truncation to k costs.

    `tail_mass` and `truncation_bound` [len(ks)] are the mass beyond the k most probable ids, and the error
    bound of CU-HLM (arXiv 2505.11788, eq. 26) with the true rejection probability. `sent_bounds` are the
    same sums over the tokens above each of SENT_LEVELS, `costs` [len(COSTS)][len(COSTED_KS)] sums over the
    tokens that the walk's threshold sends.
    """

    seen: tuple[Seen, ...]
    ks: tuple[int, ...]
    tail_mass: tuple[float, ...]
    truncation_bound: tuple[float, ...]
    sent_bounds: tuple[tuple[float, ...], ...]
    costs: tuple[tuple[float, ...], ...]
    num_above: tuple[int, ...]  # tokens above each of SENT_LEVELS
    num_sent: int
    times: Times = field(default_factory=Times)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, which `from_json` reads."""
        estimators = self.seen[0].uncertainty if self.seen else ()
        return {
            "uncertainty": {name: [one.uncertainty[name] for one in self.seen] for name in estimators},
            "rejection": [one.rejection for one in self.seen],
            "distance": [one.distance for one in self.seen],
            "untruncated_distance": [one.untruncated_distance for one in self.seen],
            "below": [int(one.below) for one in self.seen],
            "accepted": [int(one.accepted) for one in self.seen],
            "ks": list(self.ks),
            "tail_mass": list(self.tail_mass),
            "truncation_bound": list(self.truncation_bound),
            "sent_bounds": [list(row) for row in self.sent_bounds],
            "costs": [list(row) for row in self.costs],
            "num_above": list(self.num_above),
            "num_sent": self.num_sent,
            "draft_steps": self.times.draft_steps,
            "passes": self.times.passes,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Walk":
        """Read what `to_json` returned."""
        seen = tuple(
            Seen(
                uncertainty={name: values[i] for name, values in fields["uncertainty"].items()},
                rejection=fields["rejection"][i],
                distance=fields["distance"][i],
                untruncated_distance=fields["untruncated_distance"][i],
                below=bool(fields["below"][i]),
                accepted=bool(fields["accepted"][i]),
            )
            for i in range(len(fields["rejection"]))
        )
        return cls(
            seen,
            tuple(fields["ks"]),
            tuple(fields["tail_mass"]),
            tuple(fields["truncation_bound"]),
            tuple(tuple(row) for row in fields["sent_bounds"]),
            tuple(tuple(row) for row in fields["costs"]),
            tuple(fields["num_above"]),
            fields["num_sent"],
            Times(fields["draft_steps"], [(num, seconds) for num, seconds in fields["passes"]]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """The draft tokens of many walks as arrays [num_tokens]; `prompt` is the number of the walk."""

    prompt: IntArray
    uncertainty: Mapping[str, FloatArray]
    rejection: FloatArray
    distance: FloatArray
    untruncated_distance: FloatArray
    below: FloatArray
    accepted: FloatArray
    ks: IntArray
    tail_mass: FloatArray  # [len(ks)], means over tokens
    truncation_bound: FloatArray
    sent_bounds: FloatArray  # [len(SENT_LEVELS), len(ks)], means over the tokens above each level
    num_above: IntArray  # [len(SENT_LEVELS)]
    costs: FloatArray  # [len(COSTS), len(COSTED_KS)], means over the sent tokens
    num_sent: int

    @classmethod
    def of(cls, walks: Sequence[Walk]) -> "Samples":
        """Join all walks; there must be at least one token."""
        tokens = [(number, seen) for number, walk in enumerate(walks) for seen in walk.seen]
        names = tokens[0][1].uncertainty
        num_above = np.sum([walk.num_above for walk in walks], axis=0)
        num_sent = sum(walk.num_sent for walk in walks)
        sent_bounds = np.sum([walk.sent_bounds for walk in walks], axis=0)
        return cls(
            prompt=np.array([number for number, _ in tokens]),
            uncertainty={name: np.array([seen.uncertainty[name] for _, seen in tokens]) for name in names},
            rejection=np.array([seen.rejection for _, seen in tokens]),
            distance=np.array([seen.distance for _, seen in tokens]),
            untruncated_distance=np.array([seen.untruncated_distance for _, seen in tokens]),
            below=np.array([float(seen.below) for _, seen in tokens]),
            accepted=np.array([float(seen.accepted) for _, seen in tokens]),
            ks=np.array(walks[0].ks),
            tail_mass=np.sum([walk.tail_mass for walk in walks], axis=0) / len(tokens),
            truncation_bound=np.sum([walk.truncation_bound for walk in walks], axis=0) / len(tokens),
            sent_bounds=sent_bounds / np.maximum(1, num_above)[:, None],
            num_above=num_above,
            costs=np.sum([walk.costs for walk in walks], axis=0) / max(1, num_sent),
            num_sent=num_sent,
        )

    @property
    def num_tokens(self) -> int:
        """The number of draft tokens."""
        return len(self.rejection)
