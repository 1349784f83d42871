"""Measure what `python -m evaluation fleet` needs: the pair's texts, pass times, worker loop and broker.

    python -m benchmarks.fleet_inputs

The figures go to evaluation/fleet/inputs.json, with the machine and the date. The GPU profile is not
measured but computed from published figures; its name and source say so.
"""

import argparse
import json
from dataclasses import asdict

from tqdm import tqdm

from benchmarks.broker_load import broker_time
from benchmarks.loop_time import loop_time
from benchmarks.service_time import PASTS, RUNS, target_time
from common.process.paths import path_flag
from edge_agent.policy.schemes import SCHEMES
from evaluation.fleet.collect import collect
from evaluation.fleet.inputs import INPUTS
from evaluation.fleet.roofline import H100
from evaluation.help_format import command_parser
from evaluation.models.pair import add_pair_flags, open_pair
from evaluation.reporting.results import header
from evaluation.smart_home.held_out import held_out

LLAMA_8B = 8.03e9  # parameters
LLAMA_8B_CACHE = 500 * 2 * 32 * 8 * 128 * 2.0  # 500 tokens, 32 layers, 8 heads of 128, 2 bytes
H100_SOURCE = (
    "assumed, not measured: a roofline of Llama 3.1 8B in bfloat16 (its model card: 32 layers, 8 key/value "
    "heads of 128) on an NVIDIA H100 SXM (its data sheet: 3.35 TB/s, 989 TFLOPS dense), half of both "
    "reached, 500 tokens cached"
)


def command_line(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> str:
    """Return the command to type for these flags; defaults are left out."""
    words = ["python -m benchmarks.fleet_inputs"]
    for name, value in vars(flags).items():
        if value != parser.get_default(name):
            words.append(f"--{name.replace('_', '-')} {value}")
    return " ".join(words)


def main() -> None:
    """Measure and write."""
    parser = command_parser("benchmarks.fleet_inputs", __doc__)
    add_pair_flags(parser)
    parser.add_argument("--commands", type=int, default=60, help="held-out commands to answer")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of each forward pass")
    parser.add_argument("--devices", type=int, default=4000, help="connections to the broker")
    parser.add_argument("--output", type=path_flag, default=INPUTS, help="the file to write")
    flags = parser.parse_args()
    with open_pair(flags) as pair:
        prompts = [pair.prompt(each.command) for each in held_out(flags.commands)]
        names = [name for name in SCHEMES if name != "slm"]
        schemes = {
            name: collect(pair, SCHEMES[name], prompts, max_tokens=96, seed=1).to_json()
            for name in tqdm(names, desc="texts")
        }
    loop, _ = loop_time()
    targets = {f"{name}-cpu": asdict(target_time(name, flags.runs)) for name in PASTS}
    targets["assumed-h100-llama-8b"] = asdict(H100.target(LLAMA_8B, LLAMA_8B_CACHE, H100_SOURCE))
    broker, _ = broker_time([10, 100, 1000, flags.devices], 40_000, 5.0)
    source = header(command_line(parser, flags))
    found = {"source": source, "broker": broker, "loop": asdict(loop), "targets": targets, "schemes": schemes}
    flags.output.parent.mkdir(parents=True, exist_ok=True)
    flags.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {flags.output}")


if __name__ == "__main__":
    main()
