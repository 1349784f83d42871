"""Text at once: drafted text is shown in brackets until it is verified, and removed if it is rejected.

python examples/tentative.py "turn on the kitchen light" --broker mqtt://localhost:1883

Each line is what an app would show at that moment. `edge-agent generate --tentative` does this in place.
"""

import argparse
import asyncio
import sys

from common.process.settings import SettingsError, add_flags, load
from edge_agent import ENV_PREFIX, AgentConfig, AgentError, EdgeAgent, Retraction, Tentative, Token


async def answer(config: AgentConfig, prompt: str) -> int:
    """Follow the events of one answer; returns 1 when it broke off."""
    async with EdgeAgent.open(config) as agent:
        generation = agent.generate(prompt)
        final, ahead = "", list[str]()
        async for event in generation.events():
            match event:
                case Tentative(text):  # drafted, not verified
                    ahead.append(text)
                case Retraction(_, num_tokens):  # the last of them are rejected
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
    except (SettingsError, AgentError) as error:  # each message is one line for a person
        sys.exit(f"tentative: {error}")
