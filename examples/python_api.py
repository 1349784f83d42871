"""One answer, token by token, each in the colour of where it came from.

python examples/python_api.py "turn on the kitchen light" --broker mqtt://localhost:1883

Every setting of `edge-agent generate` works here too, as a flag, an environment variable or a TOML key.
"""

import argparse
import asyncio
import sys

from common.process.settings import SettingsError, add_flags, load
from edge_agent import ENV_PREFIX, AgentConfig, AgentError, EdgeAgent, Report
from edge_agent.cli.terminal import coloured, legend


async def answer(config: AgentConfig, prompt: str) -> int:
    """Stream the answer, then print what it took; returns 1 when it broke off."""
    async with EdgeAgent.open(config) as agent:
        print(legend())
        generation = agent.generate(prompt)
        async for token in generation:
            print(coloured(token), end="", flush=True)
        print("\n" + "\n".join(Report.of(generation).lines()))
        if generation.failure:  # an answer that breaks off raises nothing: check this
            print(agent.explain(generation.failure), file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Stream one answer.")
    parser.add_argument("prompt")
    add_flags(parser, AgentConfig, ENV_PREFIX)
    flags = parser.parse_args()
    try:
        sys.exit(asyncio.run(answer(load(AgentConfig, flags, ENV_PREFIX), flags.prompt)))
    except (SettingsError, AgentError) as error:  # each message is one line for a person
        sys.exit(f"python_api: {error}")
