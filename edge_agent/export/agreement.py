"""The check of an export: does DraftModel, on the new graph, compute what torch computes?

Law: the sequences are sampled from the model itself, and the positions are visited in random order, so that
rewinding and catching up over several tokens are part of the check.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.sampling.distribution import softmax
from common.sampling.randomness import FloatArray
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.errors import ModelError
from edge_agent.export import Agreement
from edge_agent.export.graphs import one_line

if TYPE_CHECKING:
    from edge_agent.export import Precision

NUM_SEQUENCES = 2
NUM_START, NUM_SAMPLED = 8, 40  # tokens: drawn uniformly, then by the model
FP32_TOLERANCE = 1e-3  # of the largest logit, or of 1

# The largest mean total variation that a precision explains; that of a broken graph is near 1.
_TOLERATED = {"fp32": 1e-3, "fp16": 0.05, "int8": 0.3, "int4": 0.6}


@dataclass(frozen=True, slots=True)
class Reference:
    """The result of torch: token sequences, each with its logits [tokens, vocabulary] after every token."""

    sequences: list[list[int]]
    logits: list[FloatArray]


def reference(source: Path, seed: int = 0) -> Reference:
    """Sample sequences from the torch model in folder `source`; raises ModelError if there is none."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    except Exception as error:  # every architecture fails in its own way
        raise ModelError(f"transformers cannot load the model in {source} ({one_line(error)}).") from error
    num_ids = int(model.config.get_text_config().vocab_size)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        tokens = torch.randint(num_ids, (NUM_SEQUENCES, NUM_START))
        for _ in range(NUM_SAMPLED):
            probs = model(tokens).logits[:, -1].softmax(-1)
            tokens = torch.cat([tokens, torch.multinomial(probs, 1)], dim=1)
        logits = model(tokens).logits.double().numpy()
    return Reference(tokens.tolist(), list(logits))


def compare(
    expected: Reference, made: Path, *, num_threads: int = 0, providers: Sequence[str] = (), seed: int = 0
) -> Agreement:
    """Compare the graph in folder `made` with torch."""
    draft = DraftModel.load(made, num_threads=num_threads, providers=providers)
    rng = np.random.default_rng(seed)
    wanted: list[FloatArray] = []
    found: list[FloatArray] = []
    for tokens, rows in zip(expected.sequences, expected.logits, strict=True):
        for position in rng.permutation(len(tokens)):
            wanted.append(rows[position])
            found.append(draft.logits(tokens[: position + 1])[: rows.shape[1]].astype(np.float64))
    return _agreement(np.array(wanted), np.array(found))


def judge(agreement: Agreement, precision: "Precision") -> None:
    """Raise ModelError when the graph is further from torch than its precision explains."""
    scale = max(1.0, agreement.max_logit)
    exact = precision != "fp32" or agreement.max_difference <= FP32_TOLERANCE * scale
    if not exact or not agreement.total_variation <= _TOLERATED[precision]:
        raise ModelError(
            f"the {precision} graph does not do what the model does in torch: logits differ by up to "
            f"{agreement.max_difference:.2g}, distributions by {agreement.total_variation:.1%}."
        )


def _agreement(wanted: FloatArray, found: FloatArray) -> Agreement:
    """Both are logits [positions, vocabulary]."""
    distances = [
        0.5 * float(np.abs(softmax(one) - softmax(other)).sum())
        for one, other in zip(wanted, found, strict=True)
    ]
    return Agreement(
        num_positions=len(wanted),
        max_difference=float(np.abs(wanted - found).max()),
        max_logit=float(np.abs(wanted).max()),
        same_argmax=float((wanted.argmax(-1) == found.argmax(-1)).mean()),
        total_variation=float(np.mean(distances)),
    )
