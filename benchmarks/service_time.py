"""Measure how long a forward pass takes, by sessions and new tokens.

    python -m benchmarks.service_time

Two target models are timed on this machine: the demo pair's, and one shaped like SmolLM2-135M with random
weights. Times are processor time of one thread, which other processes affect least. They are fitted by `fixed
+ per_session * sessions + per_token * new tokens` (least squares, no term below zero). The ratio of every
measured time to its fitted time is kept, so that a simulation can draw from the measurements.
"""

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls
from tqdm import tqdm

from benchmarks.batched_verification import MAX_TOKENS, Sessions, build_model
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.target_model.engine import LogitsEngine
from cloud_worker.target_model.layers import layer_shapes
from cloud_worker.target_model.loading import load as load_model
from cloud_worker.target_model.packed_engine import PackedEngine
from cloud_worker.target_model.padded import attend_padded
from evaluation.fleet.inputs import PassTime
from evaluation.help_format import command_parser

RUNS = 9
COUNTS, BLOCKS = (1, 4, 16), (1, 4, 8)  # sessions in a pass, new tokens per session
VOCABULARIES = {"demo": 1000, "smollm2-135m": 49152}
PASTS = {"demo": 60, "smollm2-135m": 100}


@dataclass(frozen=True, slots=True)
class Timed:
    """One point of the grid; `runs` are in seconds."""

    num_sessions: int
    num_tokens: int
    runs: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """The median of the runs."""
        return statistics.median(self.runs)


def engine(name: str) -> LogitsEngine:
    """Return the packed engine that a worker uses, on the CPU in float32."""
    model = (
        load_model("demo", device="cpu", dtype="float32", device_map=None).model
        if name == "demo"
        else build_model()
    )
    return PackedEngine(model, layer_shapes(model), model.config.vocab_size, MAX_TOKENS, 256, attend_padded)


def timings(name: str, runs: int) -> list[Timed]:
    """Time the grid, all points once per run; every pass finds its past in the cache."""
    vocab_size, past = VOCABULARIES[name], PASTS[name]
    batches = {new: Sessions(max(COUNTS), past, new, past // 10).passes() for new in BLOCKS}
    torch.set_num_threads(1)
    running, seconds = engine(name), dict[tuple[int, int], list[float]]()
    with torch.inference_mode():
        for _ in tqdm(range(runs + 1), desc=f"passes of {name}", leave=False):
            for num_sessions, new in itertools.product(COUNTS, BLOCKS):
                asked = [
                    Pass(one.session, [token % vocab_size for token in one.tokens], one.num_rows)
                    for one in batches[new][:num_sessions]
                ]
                began = time.process_time()
                running.logits(asked)
                seconds.setdefault((num_sessions, new), []).append(time.process_time() - began)
    return [Timed(n, n * new, tuple(found[1:])) for (n, new), found in seconds.items()]


def fit(points: Sequence[Timed]) -> tuple[tuple[float, float, float], float]:
    """Fit fixed, per_session and per_token; return them and the largest relative error."""
    terms = np.array([[1.0, each.num_sessions, each.num_tokens] for each in points])
    seconds = np.array([each.seconds for each in points])
    found, _ = nnls(terms / seconds[:, None], np.ones(len(points)))
    error = float(np.abs(terms @ found / seconds - 1.0).max())
    return (float(found[0]), float(found[1]), float(found[2])), error


def target_time(name: str, runs: int) -> PassTime:
    """Return a profile of the fleet's inputs, measured on this machine."""
    points = timings(name, runs)
    (fixed, per_session, per_token), error = fit(points)
    source = (
        f"measured: {name}, float32, processor time of one thread, about {PASTS[name]} tokens cached; "
        f"the fit is at most {error:.0%} off the medians of {runs} runs at {len(points)} points"
    )
    fitted = PassTime(fixed, per_session, per_token, source)
    ratios = [
        round(seconds / fitted.seconds(each.num_sessions, each.num_tokens), 4)
        for each in points
        for seconds in each.runs
    ]
    return PassTime(fixed, per_session, per_token, source, ratios=sorted(ratios))


def main() -> None:
    """Measure and print."""
    parser = command_parser("benchmarks.service_time", __doc__)
    parser.add_argument("--models", nargs="+", choices=PASTS, default=list(PASTS), help="the models to time")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of each pass")
    flags = parser.parse_args()
    for name in flags.models:
        found = target_time(name, flags.runs)
        parts = ("fixed", "per_session", "per_token")
        print(name, ", ".join(f"{part} {1000 * getattr(found, part):.3f} ms" for part in parts))
        print(f"    {found.source}; ratio of measured to fitted {found.ratios[0]} to {found.ratios[-1]}")


if __name__ == "__main__":
    main()
