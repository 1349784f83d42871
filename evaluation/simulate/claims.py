"""The claims: ours against the papers' schemes at equal measured drift, with intervals and Holm's correction.

Law: every claim is tested, also those that fail, and all of them are one family: a claim holds if it holds
after Holm's correction over the whole table.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.sampling.randomness import FloatArray
from evaluation.reporting.resampling import TAIL, Estimate
from evaluation.reporting.significance import LEVEL, holm
from evaluation.simulate.curves import (
    PAYLOAD,
    SKIPPED,
    TRUNCATION,
    AtDrift,
    Curve,
    draw_weights,
    num_commands,
)

LEVELS = (0.0005, 0.001, 0.002, 0.005)  # drift per token
OURS = ("opportunistic", "opportunistic, k = 2", "opportunistic, k = 1", "opportunistic, window 1")
OURS_AT_NO_DRIFT = ("lossless", "coupled")
THEIRS = ("u-hlm", "cu-hlm-offline", "cu-hlm-online")
NUM_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Tested:
    """A figure with its interval, and the chance of one as far from no difference, before and after Holm."""

    estimate: Estimate
    p: float
    adjusted: float = 1.0

    @property
    def holds(self) -> bool:
        """Whether the difference is shown, after the correction."""
        return self.adjusted < LEVEL


@dataclass(frozen=True, slots=True)
class Claim:
    """Ours against theirs at one drift: a figure is a ratio, or for accuracy a difference of shares."""

    level: float
    ours: str
    theirs: str
    figure: str  # RIGHT_FIGURE, or what is compared and in which world
    tested: Tested


RIGHT_FIGURE = "exactly right"
BYTES_FIGURE, SPEED_FIGURE = "uplink bytes", "tokens/s"


@dataclass(frozen=True, slots=True)
class Figure:
    """A curve's figure at one drift; None where no threshold reaches it."""

    level: float
    curve: str
    name: str
    estimate: Estimate | None


def figures(curves: Sequence[Curve], levels: Sequence[float] = LEVELS) -> list[Figure]:
    """Return every figure of every curve at every drift."""
    weights = draw_weights(num_commands(curves), NUM_DRAWS)
    found: list[Figure] = []
    for level in levels:
        for curve in curves:
            at = AtDrift.of(curve, level, weights)
            named = {RIGHT_FIGURE: at.right, SKIPPED: at.skipped, TRUNCATION: at.truncation}
            named[PAYLOAD] = at.payload
            named |= {f"{BYTES_FIGURE}: {world}": draws for world, draws in at.bytes_up.items()}
            named |= {f"{SPEED_FIGURE}: {world}": draws for world, draws in at.tokens_per_second.items()}
            found += [Figure(level, curve.label, name, estimate(draws)) for name, draws in named.items()]
    return found


def compare(level: float, ours: tuple[str, AtDrift], theirs: tuple[str, AtDrift]) -> list[Claim]:
    """Return all figures of one pair of schemes; one that no threshold reaches is left out."""
    (our_name, one), (their_name, other) = ours, theirs
    found = {RIGHT_FIGURE: tested_difference(one.right, other.right)}
    found[PAYLOAD] = tested_ratio(one.payload, other.payload)
    for world in one.bytes_up:
        found[f"{BYTES_FIGURE}: {world}"] = tested_ratio(one.bytes_up[world], other.bytes_up[world])
    for world in one.tokens_per_second:
        rates = one.tokens_per_second[world], other.tokens_per_second[world]
        found[f"{SPEED_FIGURE}: {world}"] = tested_ratio(*rates)
    return [
        Claim(level, our_name, their_name, figure, tested)
        for figure, tested in found.items()
        if tested is not None
    ]


def claims(curves: Sequence[Curve], levels: Sequence[float] = LEVELS) -> list[Claim]:
    """Return every claim, corrected for their number."""
    weights = draw_weights(num_commands(curves), NUM_DRAWS)
    found: list[Claim] = []
    for level in levels:
        at = {curve.label: AtDrift.of(curve, level, weights) for curve in curves}
        ours = [name for name in (*OURS, *OURS_AT_NO_DRIFT) if name in at]
        theirs = [name for name in at if name.startswith(THEIRS)]
        for name in ours:
            for baseline in theirs:
                found += compare(level, (name, at[name]), (baseline, at[baseline]))
    adjusted = holm([claim.tested.p for claim in found])
    return [
        Claim(
            claim.level,
            claim.ours,
            claim.theirs,
            claim.figure,
            Tested(claim.tested.estimate, claim.tested.p, value),
        )
        for claim, value in zip(found, adjusted, strict=True)
    ]


def estimate(draws: FloatArray) -> Estimate | None:
    """Return the first draw with the middle 95 % of the others; None if it is NaN."""
    if not math.isfinite(draws[0]):
        return None
    low, high = np.nanpercentile(draws[1:], (TAIL, 100 - TAIL))
    return Estimate(float(draws[0]), float(low), float(high))


def tested_ratio(ours: FloatArray, theirs: FloatArray) -> Tested | None:
    """Return ours over theirs; the p-value is that of a normal law for the logarithm of the ratio."""
    if min(ours[0], theirs[0]) <= 0.0:  # what costs nothing has no ratio
        return None
    found = estimate(ours / theirs)
    if found is None:
        return None
    logarithms = np.log(ours) - np.log(theirs)
    return Tested(found, two_sided(logarithms[0], float(np.nanstd(logarithms[1:]))))


def tested_difference(ours: FloatArray, theirs: FloatArray) -> Tested | None:
    """Return ours minus theirs."""
    differences = ours - theirs
    found = estimate(differences)
    return None if found is None else Tested(found, two_sided(found.value, float(np.nanstd(differences[1:]))))


def two_sided(difference: float, deviation: float) -> float:
    """Return the chance that a normal variable with mean 0 is at least as far from 0."""
    if deviation == 0.0:
        return 1.0 if difference == 0.0 else 0.0
    return math.erfc(abs(difference) / deviation / math.sqrt(2.0))
