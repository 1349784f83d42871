"""How long the two models take on this machine, from the steps and passes of a calibration. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.calibrate.samples import Times


@dataclass(frozen=True, slots=True)
class ModelTimes:
    """Seconds per draft token, of a pass without tokens, and per token in it; None where not measured."""

    draft_seconds: float
    pass_seconds: float | None
    row_seconds: float
    num_passes: int


def model_times(walks: Sequence[Times]) -> ModelTimes:
    """The median step, and the line through the passes but the first of each walk, which reads the prompt."""
    steps = [seconds for times in walks for seconds in times.draft_steps]
    passes = [one for times in walks for one in times.passes[1:]]
    num_passes = sum(times.num_passes for times in walks)
    draft_seconds = statistics.median(steps) if steps else 0.0
    if not passes:
        return ModelTimes(draft_seconds, None, 0.0, num_passes)
    rows, seconds = np.array(passes, np.float64).T
    spread = float(np.var(rows))
    slope = float(np.cov(rows, seconds, bias=True)[0, 1]) / spread if spread > 0 else 0.0
    slope = min(max(0.0, slope), float(seconds.mean() / rows.mean()))
    return ModelTimes(draft_seconds, float(seconds.mean() - slope * rows.mean()), slope, num_passes)
