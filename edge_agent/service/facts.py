"""What every way in shows of a service: its status, its counts, and the report of an answer. One source.

Law: the names and units are the same over HTTP and MQTT. Every value is plain JSON; unknown is None.
"""

from typing import Any

from common.process.version import release
from edge_agent.generation.generation import Generation
from edge_agent.service.answer import Answer
from edge_agent.service.service import Service

Facts = dict[str, Any]


def status(service: Service) -> Facts:
    """The state of the agent now; it changes with each notice, and with the worker that answers."""
    agent, config = service.agent, service.config
    return {
        "busy": service.num_running > 0,
        "waiting": service.num_waiting,
        "slots": agent.num_slots,
        "max_waiting": service.max_waiting,
        "cloud": agent.reaches_cloud,
        "connected": agent.connected,
        "needs_cloud": config.needs_cloud,
        "worker": agent.totals.worker,
        "pool": config.pool,
        "device": config.device_name,
        "scheme": config.chosen_scheme.name,
        "risk": config.risk,
        "threshold": config.threshold,
        "on_cloud_loss": config.on_cloud_loss,
        "model": config.served_name,
        "version": release(),
    }


def stats(service: Service) -> Facts:
    """Counts since the agent began; bytes are of whole MQTT packets, before TLS."""
    agent = service.agent
    tally, link, trip = agent.totals.tally, agent.link_statistics, agent.totals.round_trip
    return {
        "answers": sum(agent.totals.num_generations.values()),
        "tokens": tally.num_tokens,
        "uplinks": tally.num_uplinks,
        "bytes_up": link.num_bytes_up,
        "bytes_down": link.num_bytes_down,
        "rtt_ms": None if trip is None else round(1000 * trip, 1),
        "measured_risk": _rounded(agent.risk),
        "acceptance": _rounded(tally.acceptance_rate),
        "tokens_per_second": _tokens_per_second(service),
    }


def report_fields(answer: Answer) -> Facts:
    """The report of an answer that has ended."""
    report = answer.report
    assert report is not None  # it has ended
    return {
        "scheme": report.scheme,
        "seed": report.seed,
        "threshold": report.threshold,
        "num_tokens": report.num_tokens,
        "num_prompt_tokens": report.num_prompt_tokens,
        "num_by_fate": report.num_by_fate,
        "num_uplinks": report.num_uplinks,
        "num_resent": report.num_resent,
        "num_tested": report.num_tested,
        "num_accepted": report.num_accepted,
        "acceptance_rate": report.acceptance_rate,
        "num_skipped": report.num_skipped,
        "num_measured": report.num_measured,
        "measured_risk": report.measured_risk,
        "bytes_up": report.num_bytes_up,
        "bytes_down": report.num_bytes_down,
        "round_trip": report.round_trip,
        "worker": answer.generation.session.worker,
        "seconds": round(report.seconds, 6),
        "seconds_to_first_token": report.seconds_to_first_token,
        "cloud_loss": report.cloud_loss,
        "cancelled": answer.is_cancelled,
    }


def so_far(generation: Generation) -> Facts:
    """What a running answer has sent, received and measured, under the names of its report."""
    session, traffic = generation.session, generation.mailbox.traffic
    tally = session.tally
    return {
        "num_uplinks": tally.num_uplinks,
        "bytes_up": traffic.num_bytes_up,
        "bytes_down": traffic.num_bytes_down,
        "num_skipped": tally.num_skipped,
        "num_measured": tally.num_measured,
        "measured_risk": tally.measured_risk,
        "round_trip": session.round_trip.smoothed,
    }


def _tokens_per_second(service: Service) -> float | None:
    """Of the last answer that had tokens."""
    report = service.last.report if service.last is not None else None
    return None if report is None else round(report.num_tokens / max(report.seconds, 1e-9), 1)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
