"""Compare verifications per second: all sessions in one packed pass, or one session after another.

The model has random weights and the shape of SmolLM2-135M, in float32 on the CPU. Each verification adds a
few tokens to a session's past and takes some back, as a rejection does. The runs of both engines are
interleaved; the medians and their ratio are printed.

    python -m benchmarks.batched_verification --sessions 16 --past 200 --new 4 --threads 2
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.target_model.engine import LogitsEngine
from cloud_worker.target_model.layers import layer_shapes
from cloud_worker.target_model.packed_engine import PackedEngine
from cloud_worker.target_model.padded import attend_padded
from cloud_worker.target_model.serial import SerialEngine
from evaluation.help_format import command_parser

MAX_TOKENS = 16384
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def build_model() -> PreTrainedModel:
    """Return a model with random weights and the shape of SmolLM2-135M."""
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
    """Sequences of about `past` tokens that get a block, lose it and get another, as after a rejection."""

    def __init__(self, num_sessions: int, past: int, num_new: int, spread: int) -> None:
        self._draw = np.random.default_rng(0)
        self._num_new = num_new
        self._pasts = [
            self._tokens(past + int(self._draw.integers(-spread, spread + 1))) for _ in range(num_sessions)
        ]

    def passes(self) -> list[Pass]:
        """Return one verification per session: new draft tokens after the same past."""
        return [
            Pass(index, past + self._tokens(self._num_new), self._num_new)
            for index, past in enumerate(self._pasts)
        ]

    def _tokens(self, count: int) -> list[int]:
        return self._draw.integers(0, 49152, count).tolist()


def seconds(engine: LogitsEngine, passes: list[Pass], clock: Callable[[], float]) -> float:
    """Return how long an engine takes for one batch."""
    start = clock()
    engine.rows(passes)
    return clock() - start


def compare(
    engines: dict[str, LogitsEngine], sessions: Sessions, num_runs: int, clock: str
) -> dict[str, list[float]]:
    """Return the seconds of every run by engine; the engines take turns."""
    for engine in engines.values():
        engine.rows(sessions.passes())
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(num_runs):
        passes = sessions.passes()
        for name, engine in engines.items():
            times[name].append(seconds(engine, passes, CLOCKS[clock]))
    return times


def main() -> None:
    """Print one line per number of sessions."""
    parser = command_parser("benchmarks.batched_verification", __doc__)
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 4, 16], help="numbers of sessions")
    parser.add_argument("--past", type=int, default=200, help="tokens before the block")
    parser.add_argument("--spread", type=int, default=20, help="vary the past by up to this many tokens")
    parser.add_argument("--new", type=int, default=4, help="tokens in a block")
    parser.add_argument("--runs", type=int, default=9, help="runs of each engine")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: as torch chooses")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="use cpu if other processes run on this machine"
    )
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with torch.inference_mode():
        for num_sessions in options.sessions:
            sessions = Sessions(num_sessions, options.past, options.new, options.spread)
            plain, packed = build_model(), build_model()
            engines: dict[str, LogitsEngine] = {
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
