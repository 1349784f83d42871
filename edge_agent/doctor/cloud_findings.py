"""Findings about the broker, the pool and the round trip. Pure."""

from collections.abc import Iterator

from common.link.values import WARN_DAYS
from common.protocol.worker_status import State
from edge_agent.doctor.facts import Cloud
from edge_agent.doctor.finding import Finding, fail, ok, warn

SLOW_ROUND_TRIP = 0.5  # seconds


def cloud_findings(cloud: Cloud | None) -> Iterator[Finding]:
    """All of them in the order of the screen."""
    if cloud is None:
        yield ok("broker", "not needed: this scheme works alone")
    else:
        yield from _cloud(cloud)


def _cloud(cloud: Cloud) -> Iterator[Finding]:
    if cloud.problem is not None:
        yield _lost(cloud, "broker", cloud.problem)
        return
    yield _broker(cloud)
    yield from _pool(cloud)
    if cloud.failure is not None:
        yield _lost(cloud, "round trip", cloud.failure)
    elif cloud.round_trip is not None:
        text = f"{1000 * cloud.round_trip:.0f} ms for one verified draft"
        if cloud.round_trip > SLOW_ROUND_TRIP:
            yield warn("round trip", text, "use a nearer broker, more workers, or the scheme opportunistic")
        else:
            yield ok("round trip", text)


def _lost(cloud: Cloud, subject: str, text: str) -> Finding:
    """The cloud does not answer: the end for an agent, unless it goes on alone."""
    if cloud.is_optional:
        return warn(subject, text, "until then the draft model answers alone (`on_cloud_loss` local)")
    return fail(subject, text, "`on_cloud_loss` local lets the draft model answer alone meanwhile")


def _broker(cloud: Cloud) -> Finding:
    days = cloud.certificate_days
    if not cloud.encrypted:
        return ok("broker", f"{cloud.broker}, not encrypted")
    if days is not None and days < WARN_DAYS:
        return warn(
            "broker", f"{cloud.broker}, TLS, a certificate expires in {days} days", "renew it before that day"
        )
    return ok("broker", f"{cloud.broker}, TLS" + ("" if days is None else f", certificates for {days} days"))


def _pool(cloud: Cloud) -> Iterator[Finding]:
    if cloud.workers is None:
        yield ok("pool", f"{cloud.pool}; this account may not see the workers' status")
        return
    online = {name: one for name, one in cloud.workers.items() if one.state is State.ONLINE}
    if not online:
        yield warn(
            "pool",
            f"no worker is online in pool {cloud.pool}",
            "start one with cloud-worker run, or correct `pool`",
        )
        return
    models = ", ".join(sorted({one.model for one in online.values()}))
    num = len(online)
    limits = [one.max_context for one in online.values() if one.max_context]
    limit = f", for up to {min(limits)} tokens" if limits else ""
    yield ok("pool", f"{cloud.pool}: {num} worker{'s' if num > 1 else ''} online ({models}){limit}")
