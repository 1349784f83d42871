"""One prompt under several schemes: what goes over the network, and what comes out.

python examples/compare_schemes.py "turn on the kitchen light" --temperature 1 --seed 7

With one seed and one temperature, `llm` and `coupled` print the same text: the target model's own.
"""

import argparse
import asyncio
import dataclasses
import sys

from common.process.settings import add_flags, load
from edge_agent import ENV_PREFIX, AgentConfig, EdgeAgent, Report

SCHEMES = ("slm", "llm", "hlm", "u-hlm", "opportunistic", "lossless", "coupled")
HEADINGS = ("scheme", "tokens", "uplinks", "bytes up", "bytes down", "accepted")


async def run(config: AgentConfig, prompt: str) -> Report:
    """The report of one answer."""
    async with EdgeAgent.open(config) as agent:
        generation = agent.generate(prompt)
        async for _ in generation:
            pass
        if generation.failure:
            sys.exit(agent.explain(generation.failure))
        return Report.of(generation)


def line(cells: tuple[object, ...]) -> str:
    """A row of the table."""
    return "".join(f"{cell!s:>14}" for cell in cells)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compare schemes on one prompt.")
    parser.add_argument("prompt")
    add_flags(parser, AgentConfig, ENV_PREFIX)
    flags = parser.parse_args()
    config = load(AgentConfig, flags, ENV_PREFIX)
    print(line(HEADINGS))
    for scheme in SCHEMES:
        report = asyncio.run(run(dataclasses.replace(config, scheme=scheme), flags.prompt))
        accepted = "-" if report.acceptance_rate is None else f"{report.acceptance_rate:.0%}"
        counts = (report.num_tokens, report.num_uplinks, report.num_bytes_up, report.num_bytes_down)
        print(line((scheme, *counts, accepted)) + f"   {report.text!r}")
