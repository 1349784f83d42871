"""Schemes compared where their measured drift is equal, not where their thresholds are. Pure.

A *family* is a scheme with everything but its threshold fixed. Between two of its settings, what it sends and
how good its text is are interpolated along the logarithm of the drift. Nothing is extrapolated.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from common.sampling.randomness import FloatArray
from edge_agent.policy.schemes import SCHEMES
from evaluation.quality.reply import PARTS, Replies
from evaluation.quality.scores import Score
from evaluation.quality.setting import SAMPLED, Setting
from evaluation.reporting.resampling import Estimate, resample

LEVELS = (0.001, 0.003, 0.008)  # drift per token
MAX_GAP = 8.0  # the largest ratio of two drifts between which is interpolated
OURS = "opportunistic"

Curves: TypeAlias = Mapping[str, Sequence[Score]]


@dataclass(frozen=True, slots=True)
class AtLevel:
    """A family at one level of drift; None where its settings do not reach that level."""

    family: str
    level: float
    sent: float
    right: float
    same_text: float
    right_difference: Estimate | None  # to OURS at the same level, paired by command
    text_difference: Estimate | None


def curves(scored: Sequence[Score]) -> Curves:
    """Return the sampled settings of each family that skips tokens, by ascending drift."""
    found: dict[str, list[Score]] = defaultdict(list)
    for each in scored:
        scheme = SCHEMES[each.setting.scheme]
        if each.setting.sampling == SAMPLED and 0.0 < each.sent < 1.0 and scheme.drafts:
            found[each.setting.family].append(each)
    return {
        name: sorted(each, key=lambda score: score.drift) for name, each in found.items() if len(each) > 1
    }


def at(drifts: FloatArray, values: FloatArray, level: float) -> float:
    """Return `values` [m] at a level between `drifts` [m], by logarithm; nan outside or in a large gap."""
    order = np.argsort(drifts, kind="stable")
    positive = order[drifts[order] > 0.0]
    above = int(np.searchsorted(drifts[positive], level))
    if not 0 < above < len(positive) or drifts[positive[above]] > MAX_GAP * drifts[positive[above - 1]]:
        return float("nan")
    return float(np.interp(np.log(level), np.log(drifts[positive]), values[positive]))


def compare(replies: Replies, scored: Sequence[Score], levels: Sequence[float] = LEVELS) -> list[AtLevel]:
    """Compare every family with OURS at each level, where both reach it."""
    families = {name: [each.setting for each in curve] for name, curve in curves(scored).items()}
    known = [setting for each in families.values() for setting in each]
    if not known:
        return []
    columns = {setting: _columns(replies, setting) for setting in known}
    commands = np.array([each.command for each in replies[known[0]]])
    keys = [(name, level) for name in families for level in levels]

    def figures(weights: FloatArray) -> FloatArray:
        sums = {setting: columns[setting] @ weights for setting in known}
        found: list[float] = []
        for name, level in keys:
            right, same, tokens, skipped, drift = np.array([sums[each] for each in families[name]]).T
            total = float(weights.sum())
            shares = (1.0 - skipped / tokens, right / total, same / total)
            found += [at(drift / tokens, share, level) for share in shares]
        return np.array(found)

    resampled = resample(figures, commands)
    index = {key: 3 * number for number, key in enumerate(keys)}
    found: list[AtLevel] = []
    for (name, level), first in index.items():
        sent, right, same = resampled.values[first : first + 3].tolist()
        if np.isnan(sent):
            continue
        ours = index.get((OURS, level))
        can_compare = ours is not None and name != OURS and not np.isnan(resampled.values[ours])
        differences = (
            [resampled.difference(first + i, ours + i) for i in (1, 2)]
            if can_compare and ours is not None
            else [None, None]
        )
        found.append(AtLevel(name, level, sent, right, same, *differences))
    return found


def _columns(replies: Replies, setting: Setting) -> FloatArray:
    """Return what is summed [5, num_replies]: right, same text, tokens, skipped, drift."""
    rows = [
        (each.is_right, each.edits == 0, each.tokens, each.skipped, each.drift / PARTS)
        for each in replies[setting]
    ]
    return np.array(rows, np.float64).T
