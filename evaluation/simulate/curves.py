"""Pareto curves: what each scheme costs at every drift that its threshold can reach. Pure values.

A curve is one scheme, from a threshold at which every token is verified to one at which none is. Its figures
are kept per reply, so that intervals can be computed again without the models.

Law: schemes are compared at equal measured drift, never at equal thresholds, which mean different things in
different schemes. Between two thresholds a figure per token is linear in the drift: who uses one threshold
for a share of the answers and the other for the rest gets exactly that, so every point of a curve can be had.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.sampling.distribution import IntArray
from common.sampling.randomness import FloatArray

TOKENS, RIGHT, SKIPPED, DRIFT, BOUND, TRUNCATION = (
    "tokens",
    "right",
    "skipped",
    "drift",
    "bound",
    "truncation",
)
WORTHS = (
    TOKENS,
    RIGHT,
    SKIPPED,
    DRIFT,
    BOUND,
    TRUNCATION,
)  # sums over the tokens of a reply; right is 0 or 1


PAYLOAD = "the papers' payload"  # uplink bytes by the papers' count, in any world


def seconds_in(world: str) -> str:
    """Return the name of the column with a reply's seconds in a world."""
    return f"seconds, {world}"


def bytes_in(world: str) -> str:
    """Return the name of the column with a reply's uplink bytes in a world."""
    return f"bytes up, {world}"


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One scheme at ascending `knobs`: thresholds, or shares that are skipped; (None,) if there is none.

    `columns` [num_knobs, num_replies] hold the figures; `commands` and `seeds` [num_replies] say what was
    asked.
    """

    label: str
    knobs: tuple[float | None, ...]
    commands: IntArray
    seeds: IntArray
    columns: Mapping[str, FloatArray]

    @property
    def worlds(self) -> list[str]:
        """The worlds in which the replies were timed."""
        return [name.removeprefix("seconds, ") for name in self.columns if name.startswith("seconds, ")]

    def totals(self, name: str, weights: FloatArray) -> FloatArray:
        """Return sums of a column [num_draws, num_knobs]; `weights` [num_draws, num_commands]."""
        per_command = np.zeros((weights.shape[1], len(self.knobs)))
        np.add.at(per_command, self.commands, self.columns[name].T)
        return weights @ per_command

    def per_token(self, name: str, weights: FloatArray) -> FloatArray:
        """Return means of a column over tokens [num_draws, num_knobs]."""
        return self.totals(name, weights) / self.totals(TOKENS, weights)

    def right(self, weights: FloatArray) -> FloatArray:
        """Return shares of replies that are exactly right [num_draws, num_knobs]."""
        per_command = np.bincount(self.commands, minlength=weights.shape[1])
        return self.totals(RIGHT, weights) / (weights @ per_command)[:, None]


def draw_weights(num_commands: int, num_draws: int, seed: int = 0) -> FloatArray:
    """Return how often each command counts [1 + num_draws, num_commands]: first once, then resampled.

    All replies to a command stay together, and all curves get the same draws, so differences are paired.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(num_commands, np.full(num_commands, 1 / num_commands), size=num_draws)
    return np.concatenate([np.ones((1, num_commands)), drawn.astype(np.float64)])


def at_drift(drifts: FloatArray, figures: FloatArray, level: float) -> FloatArray:
    """Return the figures [num_draws] at the drift `level`, linear between the knobs.

    `drifts` and `figures` are [num_draws, num_knobs]. A curve whose drift is never as high as `level` gives
    its last point if that is its only one (it keeps the level at no cost), else NaN; so does one whose drift
    is always higher.
    """
    rising = np.maximum.accumulate(drifts, axis=1)
    rows, last = np.arange(len(drifts)), drifts.shape[1] - 1
    below = (rising <= level).sum(axis=1) - 1  # the last knob that keeps the level
    if last == 0:
        return np.where(below == 0, figures[:, 0], np.nan)
    left = np.clip(below, 0, last - 1)
    low, high = rising[rows, left], rising[rows, left + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(high > low, (level - low) / (high - low), 1.0)
    found = (1 - share) * figures[rows, left] + share * figures[rows, left + 1]
    return np.where((below < 0) | ((below == last) & (rising[:, -1] < level)), np.nan, found)


@dataclass(frozen=True, slots=True)
class AtDrift:
    """A curve's figures at one drift, per draw [num_draws]: of all commands first, then resampled."""

    right: FloatArray
    skipped: FloatArray
    truncation: FloatArray
    payload: FloatArray  # uplink bytes per token
    bytes_up: Mapping[str, FloatArray]  # per token, by world
    tokens_per_second: Mapping[str, FloatArray]

    @classmethod
    def of(cls, curve: Curve, level: float, weights: FloatArray) -> "AtDrift":
        """Interpolate a curve."""
        drifts = curve.per_token(DRIFT, weights)

        def found(name: str) -> FloatArray:
            return at_drift(drifts, curve.per_token(name, weights), level)

        return cls(
            right=at_drift(drifts, curve.right(weights), level),
            skipped=found(SKIPPED),
            truncation=found(TRUNCATION),
            payload=found(PAYLOAD),
            bytes_up={world: found(bytes_in(world)) for world in curve.worlds},
            tokens_per_second={world: 1 / found(seconds_in(world)) for world in curve.worlds},
        )


def num_commands(curves: Sequence[Curve]) -> int:
    """Return how many commands the curves answer."""
    return 1 + max(int(curve.commands.max()) for curve in curves)
