"""Ask for JSON that fits a schema: draft and target model can write nothing else.

    python examples/structured.py "turn on the kitchen light" --broker mqtt://localhost:1883

Every setting is a flag, as with `edge-agent generate`.
"""

import asyncio
import json
import sys
from argparse import ArgumentParser

from common.process.settings import add_flags, load
from edge_agent import ENV_PREFIX, AgentConfig, AgentError, EdgeAgent, Fate, Grammar, Report

ACTIONS = {
    "type": "array",
    "minItems": 1,
    "maxItems": 4,
    "items": {
        "type": "object",
        "properties": {
            "device": {"type": "string", "maxLength": 30},
            "room": {"type": "string", "maxLength": 30},
            "action": {"enum": ["on", "off", "open", "close", "lock", "unlock"]},
        },
        "required": ["device", "room", "action"],
        "additionalProperties": False,
    },
}


async def main(prompt: str, config: AgentConfig) -> int:
    """Print each action; returns 1 when the answer broke off."""
    async with EdgeAgent.open(config) as agent:
        generation = agent.generate(prompt, grammar=Grammar.json_schema(ACTIONS))
        async for _ in generation:
            pass
        report = Report.of(generation)
        if report.finish_reason != "stop":  # cut off by max_tokens, or the cloud was lost
            print(generation.failure or "the answer was cut off: raise --max-tokens", file=sys.stderr)
            return 1
        for action in json.loads(generation.text):
            print(f"{action['action']}: {action['device']} in {action['room']}")
        forced = report.num_by_fate[Fate.FORCED]
        print(f"{forced} of {report.num_tokens} tokens needed no model", file=sys.stderr)
    return 0


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("prompt")
    add_flags(parser, AgentConfig, ENV_PREFIX)
    flags = parser.parse_args()
    try:
        sys.exit(asyncio.run(main(flags.prompt, load(AgentConfig, flags, ENV_PREFIX))))
    except AgentError as error:
        sys.exit(str(error))
