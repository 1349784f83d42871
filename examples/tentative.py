"""Text at once: what is drafted shows in brackets until it is verified, and goes away when it falls.

python examples/tentative.py "turn on the kitchen light" --broker mqtt://localhost:1883

Each line is what an app would show at that moment. `edge-agent generate --tentative` does it in place.
"""

import argparse
import asyncio
import sys

from common.link import LinkError
from common.process.settings import SettingsError, add_flags, load
from edge_agent.agent import EdgeAgent
from edge_agent.config import ENV_PREFIX, AgentConfig
from edge_agent.draft_model.files import ModelError
from edge_agent.generation.events import Retraction, Tentative, Token


async def answer(config: AgentConfig, prompt: str) -> int:
    """Follow the events of one answer; 1 when it could not be finished."""
    async with EdgeAgent.open(config) as agent:
        generation = agent.generate(prompt)
        final, ahead = "", list[str]()
        async for event in generation.events():
            match event:
                case Tentative(text):  # drafted, not verified
                    ahead.append(text)
                case Retraction(_, num_tokens):  # the last of them fall
                    del ahead[-num_tokens:]
                case Token(text):  # final; it confirms the oldest, if there is one
                    del ahead[:1]
                    final += text
            print(f"{final!r} [{''.join(ahead)}]")
        if generation.failure:
            print(agent.explain(generation.failure), file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Stream one answer before it is verified.")
    parser.add_argument("prompt")
    add_flags(parser, AgentConfig, ENV_PREFIX)
    flags = parser.parse_args()
    try:
        sys.exit(asyncio.run(answer(load(AgentConfig, flags, ENV_PREFIX), flags.prompt)))
    except (SettingsError, ModelError, LinkError) as error:  # each is one sentence for a person
        sys.exit(f"tentative: {error}")
