"""From answers to figures with intervals. Pure.

Accuracies have Wilson's interval (1927); the seeds of a prompt count as one trial, which gives the wider
interval. Differences and ratios to the target model are paired by prompt and resampled over prompts.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from common.sampling.randomness import FloatArray
from evaluation.quality.agreement import agreement
from evaluation.reporting.resampling import Estimate, resample

Z_95 = 1.959964  # the 97.5 % point of the normal distribution


@dataclass(frozen=True, slots=True)
class Answer:
    """One generation: `prompt` is its command's index, `risk_sum` is over the measured skipped tokens."""

    prompt: int
    seed: int
    tokens: tuple[int, ...]
    is_right: bool
    num_skipped: int
    num_measured: int
    risk_sum: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values, which `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Answer":
        """Read what `to_json` returned."""
        return replace(cls(**fields), tokens=tuple(fields["tokens"]))


@dataclass(frozen=True, slots=True)
class Score:
    """One variant at one temperature, over prompts and seeds; the target is `llm` with the same seed."""

    num_answers: int
    accuracy: Estimate
    difference: Estimate  # to the target's accuracy
    relative: Estimate  # accuracy over the target's
    same_tokens: Estimate  # agreement with the target's text
    same_text: Estimate  # share of texts equal to the target's
    skipped: float  # share of tokens that became final without the target model
    measured_risk: float | None  # mean rejection probability over all tokens, where the scheme measures it


def score(answers: Sequence[Answer], reference: Sequence[Answer]) -> Score:
    """Score `answers`; `reference` holds the target's, with the same prompts, seeds and order."""
    if [(each.prompt, each.seed) for each in answers] != [(each.prompt, each.seed) for each in reference]:
        raise ValueError("answers and reference must have the same prompts and seeds")
    right = np.array([float(each.is_right) for each in answers])
    target_right = np.array([float(each.is_right) for each in reference])
    pairs = list(zip(answers, reference, strict=True))
    same_tokens = np.array([agreement(one.tokens, other.tokens) for one, other in pairs])
    same_text = np.array([float(one.tokens == other.tokens) for one, other in pairs])
    prompts = np.array([each.prompt for each in answers])

    def figures(weights: FloatArray) -> FloatArray:
        accuracy, target = np.average(right, weights=weights), np.average(target_right, weights=weights)
        relative = accuracy / target if target > 0 else float("nan")
        return np.array([accuracy - target, relative, np.average(same_tokens, weights=weights)])

    resampled = resample(figures, prompts)
    num_prompts = len(np.unique(prompts))
    num_tokens = sum(len(each.tokens) for each in answers)
    num_measured = sum(each.num_measured for each in answers)
    risk_sum = sum(each.risk_sum for each in answers)
    num_skipped = sum(each.num_skipped for each in answers)
    return Score(
        num_answers=len(answers),
        accuracy=wilson(float(right.mean()), num_prompts),
        difference=resampled.estimate(0),
        relative=resampled.estimate(1),
        same_tokens=resampled.estimate(2),
        same_text=wilson(float(same_text.mean()), num_prompts),
        skipped=num_skipped / num_tokens,
        measured_risk=risk_sum / num_measured * num_skipped / num_tokens if num_measured else None,
    )


def wilson(share: float, num: int) -> Estimate:
    """Return a share of `num` trials with its 95 % score interval, which is valid at 0 and 1 too."""
    middle = (share + Z_95**2 / (2 * num)) / (1 + Z_95**2 / num)
    half = Z_95 / (1 + Z_95**2 / num) * np.sqrt(share * (1 - share) / num + Z_95**2 / (4 * num**2))
    return Estimate(share, float(middle - half), float(middle + half))
