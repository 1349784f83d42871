"""One answer, token by token, each in the colour of where it came from.

python examples/python_api.py "turn on the kitchen light" --broker mqtt://localhost:1883

Every setting of `edge-agent generate` works here too, as a flag, an environment variable or a TOML key.
"""

import argparse
import asyncio
import sys

from common.link import LinkError
from common.process.settings import SettingsError, add_flags, load
from edge_agent.agent import EdgeAgent
from edge_agent.cli.terminal import coloured, legend
from edge_agent.config import ENV_PREFIX, AgentConfig
from edge_agent.draft_model.files import ModelError
from edge_agent.report import Report


async def answer(config: AgentConfig, prompt: str) -> int:
    """Stream the answer, then say what it took; 1 when it could not be finished."""
    async with EdgeAgent.open(config) as agent:
        print(legend())
        before = agent.link_statistics
        generation = agent.generate(prompt)
        async for token in generation:
            print(coloured(token), end="", flush=True)
        print("\n" + "\n".join(Report.of(generation, before, agent.link_statistics).lines()))
        if generation.session.failure:  # an answer that breaks off raises nothing: look here
            print(agent.explain(generation.session.failure), file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Stream one answer.")
    parser.add_argument("prompt")
    add_flags(parser, AgentConfig, ENV_PREFIX)
    flags = parser.parse_args()
    try:
        sys.exit(asyncio.run(answer(load(AgentConfig, flags, ENV_PREFIX), flags.prompt)))
    except (SettingsError, ModelError, LinkError) as error:  # each is one sentence for a person
        sys.exit(f"python_api: {error}")
