"""From facts to findings: what is well, what is not, and what to do about it. Pure.

Law: every finding that is not well says what to do. Only what keeps the agent from answering fails.
"""

from edge_agent.doctor.cloud_findings import cloud_findings
from edge_agent.doctor.facts import Facts
from edge_agent.doctor.finding import Finding, Level
from edge_agent.doctor.machine_findings import machine_findings
from edge_agent.doctor.model_findings import model_findings


def findings(facts: Facts) -> list[Finding]:
    """All findings in the order of the screen."""
    return [
        *machine_findings(facts),
        *model_findings(facts.runtime, facts.model, facts.machine),
        *cloud_findings(facts.cloud),
    ]


def can_run(found: list[Finding]) -> bool:
    """Whether the agent can answer as it is set up."""
    return all(one.level is not Level.FAILURE for one in found)
