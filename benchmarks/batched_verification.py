"""Verifications per second: all sessions in one packed pass, against one session after the other.

A random model shaped like SmolLM2-135M in float32 on the CPU; every verification adds a few tokens to a past
and takes some back, as a rejection does. Runs are interleaved; the medians and their ratio are printed.

    python benchmarks/batched_verification.py --sessions 16 --past 200 --new 4 --threads 2
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.target_model.engine import Engine
from cloud_worker.target_model.layers import layer_shapes
from cloud_worker.target_model.packed_engine import PackedEngine
from cloud_worker.target_model.padded import attend_padded
from cloud_worker.target_model.serial import SerialEngine

MAX_TOKENS = 16384
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def build_model() -> PreTrainedModel:
    """Random weights in the shape of SmolLM2-135M."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


class Sessions:
    """Sequences around `past` tokens long that get a block, lose it and get another, as rejections do."""

    def __init__(self, num_sessions: int, past: int, num_new: int, spread: int) -> None:
        self._draw = np.random.default_rng(0)
        self._num_new = num_new
        self._pasts = [
            self._tokens(past + int(self._draw.integers(-spread, spread + 1))) for _ in range(num_sessions)
        ]

    def passes(self) -> list[Pass]:
        """One verification per session: fresh draft tokens after the same past."""
        return [
            Pass(index, past + self._tokens(self._num_new), self._num_new)
            for index, past in enumerate(self._pasts)
        ]

    def _tokens(self, count: int) -> list[int]:
        return self._draw.integers(0, 49152, count).tolist()


def seconds(engine: Engine, passes: list[Pass], clock: Callable[[], float]) -> float:
    """How long an engine takes for one batch."""
    start = clock()
    engine.logits(passes)
    return clock() - start


def compare(
    engines: dict[str, Engine], sessions: Sessions, num_runs: int, clock: str
) -> dict[str, list[float]]:
    """Seconds of every run of each engine, taking turns."""
    for engine in engines.values():
        engine.logits(sessions.passes())
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(num_runs):
        passes = sessions.passes()
        for name, engine in engines.items():
            times[name].append(seconds(engine, passes, CLOCKS[clock]))
    return times


def main() -> None:
    """Print one line per number of sessions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--past", type=int, default=200, help="tokens before the block")
    parser.add_argument("--spread", type=int, default=20, help="pasts differ by up to this many tokens")
    parser.add_argument("--new", type=int, default=4, help="tokens of a block")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: where other processes disturb")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with torch.inference_mode():
        for num_sessions in options.sessions:
            sessions = Sessions(num_sessions, options.past, options.new, options.spread)
            plain, packed = build_model(), build_model()
            engines: dict[str, Engine] = {
                "serial": SerialEngine(plain, 49152, MAX_TOKENS, 256),
                "packed": PackedEngine(packed, layer_shapes(packed), 49152, MAX_TOKENS, 256, attend_padded),
            }
            times = compare(engines, sessions, options.runs, options.clock)
            medians = {name: statistics.median(runs) for name, runs in times.items()}
            ratios = [a / b for a, b in zip(times["serial"], times["packed"], strict=True)]
            print(
                f"{num_sessions:3d} sessions: serial {medians['serial'] * 1e3:6.0f} ms, packed "
                f"{medians['packed'] * 1e3:6.0f} ms, ratio {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f}), "
                f"{num_sessions / medians['packed']:.0f} verifications/s packed",
                flush=True,
            )


if __name__ == "__main__":
    main()
