"""The findings as lines for people, and with the facts as JSON. Pure."""

import dataclasses
import json
from collections.abc import Sequence

from edge_agent.doctor.facts import Facts
from edge_agent.doctor.finding import Finding
from edge_agent.doctor.findings import can_run


def as_lines(found: Sequence[Finding]) -> list[str]:
    """One line per finding, with the advice on the next line."""
    width = max((len(one.subject) for one in found), default=0)
    lines: list[str] = []
    for one in found:
        lines.append(f"{one.level:4}  {one.subject:{width}}  {one.text}")
        if one.advice is not None:
            lines.append(f"{'':4}  {'':{width}}  -> {one.advice}")
    return lines


def as_json(facts: Facts, found: Sequence[Finding]) -> str:
    """{"can_run": ..., "findings": [...], "facts": {...}}."""
    return json.dumps(
        {
            "can_run": can_run(list(found)),
            "findings": [dataclasses.asdict(one) for one in found],
            "facts": dataclasses.asdict(facts),
        },
        indent=2,
        default=sorted,
    )
