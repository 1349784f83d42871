"""The check of an export: does DraftModel, on the new graph, compute what torch computes?

Law: the text is real: the original's own answers, sampled at temperature 1, to fixed prompts or the user's.
Every position is read as a device reads it, and some again after a rewind.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from common.sampling.distribution import softmax
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.errors import ModelError
from edge_agent.export import Agreement

if TYPE_CHECKING:
    from edge_agent.export import Precision
    from edge_agent.export.original import Original

PROMPTS = (
    "The kitchen light stays on all night because",
    "Question: How do I keep bread fresh for a week?\nAnswer:",
    "def read_temperatures(path):\n    ",
    "A train leaves at 9:40 and takes 2 hours and 35 minutes. It arrives at",
    "Dear Ms Keller,\nthank you for your letter of 3 May.",
    "In 1969, the first people on the Moon",
)
MAX_PROMPTS = 16
NUM_SAMPLED = 48  # tokens per prompt
NUM_REWINDS = 4  # per prompt
FP32_TOLERANCE = 1e-3  # of the largest logit, or of 1

# The largest mean total variation that a precision explains; that of a broken graph is near 1.
_TOLERATED = {"fp32": 1e-3, "fp16": 0.05, "int8": 0.3, "int4": 0.6}


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt of `num_prompt` tokens with the original's answer, and its logits [answer, vocabulary]."""

    tokens: list[int]
    num_prompt: int
    logits: npt.NDArray[np.float32]


def reference(original: "Original", prompts: Sequence[str] = PROMPTS, seed: int = 0) -> list[Written]:
    """Let the original answer the prompts."""
    texts = original.answers(prompts[:MAX_PROMPTS], NUM_SAMPLED, seed)
    return [
        Written(tokens, num_prompt, original.logits(tokens, NUM_SAMPLED + 1)[:-1].numpy())
        for tokens, num_prompt in texts
    ]


def compare(
    expected: Sequence[Written],
    made: Path,
    *,
    num_threads: int = 0,
    providers: Sequence[str] = (),
    seed: int = 0,
) -> Agreement:
    """Compare the graph in folder `made` with torch."""
    draft = DraftModel.load(made, num_threads=num_threads, providers=providers)
    rng = np.random.default_rng(seed)
    differences: list[float] = []
    distances: list[float] = []
    same: list[bool] = []
    steps: list[float] = []
    for text in expected:
        draft.begin_text(text.num_prompt)
        ends = np.arange(text.num_prompt, len(text.tokens))
        for end in [*ends, *rng.permutation(ends)[:NUM_REWINDS]]:
            began = time.perf_counter()
            found = draft.logits(text.tokens[:end])[: text.logits.shape[1]]
            if end > text.num_prompt:
                steps.append(time.perf_counter() - began)
            wanted = text.logits[end - text.num_prompt]
            differences.append(float(np.abs(wanted - found).max()))
            distances.append(0.5 * float(np.abs(softmax(wanted) - softmax(found)).sum()))
            same.append(bool(wanted.argmax() == found.argmax()))
    return Agreement(
        num_positions=len(distances),
        max_difference=max(differences),
        max_logit=max(float(np.abs(text.logits).max()) for text in expected),
        same_argmax=statistics.fmean(same),
        total_variation=statistics.fmean(distances),
        step_seconds=statistics.median(steps),
    )


def judge(agreement: Agreement, precision: "Precision") -> None:
    """Raise ModelError when the graph is further from torch than its precision explains."""
    scale = max(1.0, agreement.max_logit)
    exact = precision != "fp32" or agreement.max_difference <= FP32_TOLERANCE * scale
    if not exact or not agreement.total_variation <= _TOLERATED[precision]:
        raise ModelError(
            f"the {precision} graph does not do what the model does in torch: logits differ by up to "
            f"{agreement.max_difference:.2g}, distributions by {agreement.total_variation:.1%}."
        )
