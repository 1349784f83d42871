"""The command `doctor`: what this device, its model and its pool are like, and what to change."""

import argparse
import asyncio
import dataclasses

from common.process.log import printable
from common.process.settings import with_flags
from edge_agent.config import AgentConfig
from edge_agent.doctor.examination import examine
from edge_agent.doctor.findings import can_run, findings
from edge_agent.doctor.screen import as_json, as_lines


def doctor(config: AgentConfig, flags: argparse.Namespace) -> int:
    """Print the findings; returns 0 when the agent can answer as it is set up, otherwise 1."""
    facts = asyncio.run(examine(config))
    found = [
        dataclasses.replace(
            one, text=_shown(one.text), advice=None if one.advice is None else _shown(one.advice)
        )
        for one in findings(facts)
    ]
    print(as_json(facts, found) if flags.json else "\n".join(as_lines(found)))
    return 0 if can_run(found) else 1


def _shown(text: str) -> str:
    return printable(with_flags(text, AgentConfig))
