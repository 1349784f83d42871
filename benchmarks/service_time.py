"""How long a forward pass takes, by sessions and new tokens; and what a worker's loop adds to a draft.

    python -m benchmarks.service_time

Two target models on this machine: the demo pair's, and one shaped like SmolLM2-135M with random weights.
Times are processor time on one thread, which other processes disturb least, fitted by
`fixed + per_session * sessions + per_token * new tokens` (least squares, no term below zero). The loop's time
is the processor time of a worker process with a scripted model. Linux only.
"""

import argparse
import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls
from tqdm import tqdm

from benchmarks.batched_verification import MAX_TOKENS, Sessions, build_model
from benchmarks.capacity import BLOCK_LENGTH, load
from benchmarks.process_time import cpu_seconds
from cloud_worker.passes import Pass
from cloud_worker.target_model.engine import Engine
from cloud_worker.target_model.layers import layer_shapes
from cloud_worker.target_model.loading import load as load_model
from cloud_worker.target_model.packed import PackedEngine
from cloud_worker.target_model.padded import attend_padded
from evaluation.local_broker import LocalBroker
from evaluation.local_worker import LocalWorker

COUNTS, BLOCKS = (1, 4, 16), (1, 4, 8)  # sessions in a pass, new tokens of each
VOCABULARIES = {"demo": 1000, "smollm2-135m": 49152}
PASTS = {"demo": 60, "smollm2-135m": 100}


@dataclass(frozen=True, slots=True)
class Timed:
    """One point of the grid, in seconds."""

    num_sessions: int
    num_tokens: int
    seconds: float


def engine(name: str) -> Engine:
    """The packed engine that a worker uses, on the CPU in float32."""
    model = (
        load_model("demo", device="cpu", dtype="float32", device_map=None).model
        if name == "demo"
        else build_model()
    )
    return PackedEngine(model, layer_shapes(model), model.config.vocab_size, MAX_TOKENS, 256, attend_padded)


def timings(name: str, runs: int) -> list[Timed]:
    """Medians over the grid, the runs of all points in turn; every pass finds its past in the cache."""
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
    return [Timed(n, n * new, statistics.median(found[1:])) for (n, new), found in seconds.items()]


def fit(points: Sequence[Timed]) -> tuple[tuple[float, float, float], float]:
    """fixed, per_session, per_token; and the largest relative error (their squares are minimised)."""
    terms = np.array([[1.0, each.num_sessions, each.num_tokens] for each in points])
    seconds = np.array([each.seconds for each in points])
    found, _ = nnls(terms / seconds[:, None], np.ones(len(points)))
    error = float(np.abs(terms @ found / seconds - 1.0).max())
    return (float(found[0]), float(found[1]), float(found[2])), error


def loop_seconds(num_devices: int = 8, num_tokens: int = 800) -> float:
    """Processor seconds of a worker process for each draft, its model aside."""
    program = [sys.executable, "-m", "benchmarks.scripted", "--pass-ms", "5"]
    with LocalBroker() as broker, LocalWorker(broker.url, program=program) as worker:
        before = cpu_seconds(worker.pid)
        asyncio.run(load(broker.url, num_devices, num_tokens))
        return (cpu_seconds(worker.pid) - before) / (num_devices * num_tokens / BLOCK_LENGTH)


def target_times(names: Sequence[str], runs: int) -> dict[str, dict[str, object]]:
    """The section `targets` of the fleet's inputs, measured here."""
    per_draft, found = loop_seconds(), dict[str, dict[str, object]]()
    for name in names:
        points = timings(name, runs)
        (fixed, per_session, per_token), error = fit(points)
        found[f"{name}-cpu"] = {
            "fixed": fixed,
            "per_session": per_session,
            "per_token": per_token,
            "per_draft": per_draft,
            "source": f"measured: {name}, float32, processor time of one thread, about {PASTS[name]} "
            f"tokens cached; the fit is at most {error:.0%} off at {len(points)} points",
        }
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service_time", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=PASTS, default=list(PASTS))
    parser.add_argument("--runs", type=int, default=5)
    flags = parser.parse_args()
    for name, each in target_times(flags.models, flags.runs).items():
        parts = ("fixed", "per_session", "per_token", "per_draft")
        print(name, ", ".join(f"{part} {1000 * float(str(each[part])):.3f} ms" for part in parts))
        print(f"    {each['source']}")


if __name__ == "__main__":
    main()
