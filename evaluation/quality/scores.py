"""From replies to figures with intervals. Pure.

Accuracies have Wilson's interval (1927); the seeds of a command count as one trial, which gives the wider
interval. Differences and ratios to the target model are paired by command and resampled over commands.
Whether a difference stands is a paired test over commands, corrected for the number of claims (Holm).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from common.sampling.randomness import FloatArray
from evaluation.quality.agreement import agreement
from evaluation.quality.reply import PARTS, Replies, Reply
from evaluation.quality.setting import CURVE, REFERENCE, Setting
from evaluation.reporting.resampling import Estimate, resample
from evaluation.reporting.significance import holm, paired_p_value

Z_95 = 1.959964  # the 97.5 % point of the normal distribution


@dataclass(frozen=True, slots=True)
class Score:
    """One setting over commands and seeds; the target is `llm` with the same seed."""

    setting: Setting
    num_replies: int
    accuracy: Estimate
    difference: Estimate  # to the target's accuracy
    p_value: float  # that there is no difference
    relative: Estimate  # accuracy over the target's
    same_tokens: Estimate  # agreement with the target's text
    same_text: Estimate  # share of texts equal to the target's
    sent: float  # share of tokens that the target model verified or wrote
    drift: float  # per token: the rejection probability of what was skipped, all of it measured
    bound: float  # what the line expects the drift to be
    bias: float  # per token: the probability of a correction that truncation made wrong
    adjusted: float | None = None  # the p-value by Holm; None for those that are not among the claims


def scores(replies: Replies) -> list[Score]:
    """Score every setting; each sampling has the target's replies, and its own family of claims."""
    references = {each.sampling: found for each, found in replies.items() if each.scheme == REFERENCE}
    scored = [score(each, found, references[each.sampling]) for each, found in replies.items()]
    for sampling in references:
        claims = [
            index
            for index, each in enumerate(scored)
            if each.setting.sampling == sampling
            and each.setting.choice != CURVE
            and each.setting.scheme != REFERENCE
        ]
        for index, adjusted in zip(claims, holm([scored[i].p_value for i in claims]), strict=True):
            scored[index] = replace(scored[index], adjusted=adjusted)
    return scored


def score(setting: Setting, replies: Sequence[Reply], reference: Sequence[Reply]) -> Score:
    """Score `replies`; `reference` holds the target's, with the same commands, seeds and order."""
    if [(each.command, each.seed) for each in replies] != [(each.command, each.seed) for each in reference]:
        raise ValueError("replies and reference must have the same commands and seeds")
    right = np.array([float(each.is_right) for each in replies])
    target_right = np.array([float(each.is_right) for each in reference])
    pairs = zip(replies, reference, strict=True)
    same_tokens = np.array([agreement(one.edits, one.tokens, other.tokens) for one, other in pairs])
    same_text = np.array([float(each.edits == 0) for each in replies])
    commands = np.array([each.command for each in replies])

    def figures(weights: FloatArray) -> FloatArray:
        accuracy, target = np.average(right, weights=weights), np.average(target_right, weights=weights)
        relative = accuracy / target if target > 0 else float("nan")
        return np.array([accuracy - target, relative, np.average(same_tokens, weights=weights)])

    resampled = resample(figures, commands)
    _, command = np.unique(commands, return_inverse=True)
    by_command = np.bincount(command, weights=right - target_right).astype(np.float64)
    num_commands = len(by_command)
    num_tokens = sum(each.tokens for each in replies)
    return Score(
        setting=setting,
        num_replies=len(replies),
        accuracy=wilson(float(right.mean()), num_commands),
        difference=resampled.estimate(0),
        p_value=paired_p_value(by_command),
        relative=resampled.estimate(1),
        same_tokens=resampled.estimate(2),
        same_text=wilson(float(same_text.mean()), num_commands),
        sent=1.0 - sum(each.skipped for each in replies) / num_tokens,
        drift=sum(each.drift for each in replies) / PARTS / num_tokens,
        bound=sum(each.bound for each in replies) / PARTS / num_tokens,
        bias=sum(each.bias for each in replies) / PARTS / num_tokens,
    )


def wilson(share: float, num: int) -> Estimate:
    """Return a share of `num` trials with its 95 % score interval, which is valid at 0 and 1 too."""
    middle = (share + Z_95**2 / (2 * num)) / (1 + Z_95**2 / num)
    half = Z_95 / (1 + Z_95**2 / num) * np.sqrt(share * (1 - share) / num + Z_95**2 / (4 * num**2))
    return Estimate(share, float(middle - half), float(middle + half))
