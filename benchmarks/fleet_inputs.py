"""Measure what `python -m evaluation fleet` needs: the pair's texts, pass times, the broker.

    python -m benchmarks.fleet_inputs

Writes docs/results/fleet_inputs.json, with the machine and the date. The profile of a GPU is not measured:
it is computed from published figures, and says so in its name and source.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from benchmarks.broker_load import broker_time
from benchmarks.service_time import PASTS, target_times
from edge_agent.schemes import SCHEMES
from evaluation.fleet.collect import collect
from evaluation.held_out import held_out
from evaluation.pair import add_pair_flags, open_pair
from evaluation.results import RESULTS, header


@dataclass(frozen=True, slots=True)
class Gpu:
    """A roofline: weights and caches read at `bandwidth` bytes/s, products at `operations` a second."""

    bandwidth: float
    operations: float
    efficiency: float  # the share of both that is reached: assumed

    def target(
        self, num_parameters: float, cache_bytes: float, per_draft: float, source: str
    ) -> dict[str, object]:
        """Pass times of a model in bfloat16; `cache_bytes` are a session's keys and values."""
        return {
            "fixed": 2 * num_parameters / self.bandwidth / self.efficiency,
            "per_session": cache_bytes / self.bandwidth / self.efficiency,
            "per_token": 2 * num_parameters / self.operations / self.efficiency,
            "per_draft": per_draft,
            "source": source,
        }


H100 = Gpu(3.35e12, 989e12, 0.5)
LLAMA_8B = 8.03e9  # parameters
LLAMA_8B_CACHE = 500 * 2 * 32 * 8 * 128 * 2.0  # 500 tokens, 32 layers, 8 heads of 128, 2 bytes
H100_SOURCE = (
    "assumed, not measured: a roofline of Llama 3.1 8B in bfloat16 (its model card: 32 layers, 8 key/value "
    "heads of 128) on an NVIDIA H100 SXM (its data sheet: 3.35 TB/s, 989 TFLOPS dense), half of both "
    "reached, 500 tokens cached; the worker's loop as measured"
)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet_inputs", description=__doc__)
    add_pair_flags(parser)
    parser.add_argument("--commands", type=int, default=60, help="held-out commands for the texts")
    parser.add_argument("--runs", type=int, default=5, help="of each forward pass")
    parser.add_argument("--devices", type=int, default=4000, help="connections to the broker")
    parser.add_argument("--output", type=Path, default=RESULTS / "fleet_inputs.json")
    flags = parser.parse_args()
    with open_pair(flags) as pair:
        prompts = [pair.prompt(each.command) for each in held_out(flags.commands)]
        names = [name for name in SCHEMES if name != "slm"]
        schemes = {
            name: collect(pair, SCHEMES[name], prompts, max_tokens=96, seed=1).to_json()
            for name in tqdm(names, desc="texts")
        }
    targets = target_times(list(PASTS), flags.runs)
    per_draft = float(str(next(iter(targets.values()))["per_draft"]))
    targets["assumed-h100-llama-8b"] = H100.target(LLAMA_8B, LLAMA_8B_CACHE, per_draft, H100_SOURCE)
    broker, _ = broker_time([10, 100, 1000, flags.devices], 40_000, 5.0)
    source = header(f"python -m benchmarks.fleet_inputs --commands {flags.commands} --runs {flags.runs}")
    found = {"source": source, "broker": broker, "targets": targets, "schemes": schemes}
    flags.output.parent.mkdir(parents=True, exist_ok=True)
    flags.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {flags.output}")


if __name__ == "__main__":
    main()
