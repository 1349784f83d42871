"""The workers of a pool as a table, as JSON, and whether one of them takes sessions. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from common.link.values import WARN_DAYS
from common.protocol.worker_status import State, Status

_HEADINGS = ("WORKER", "STATE", "SESSIONS", "QUEUE", "BATCH", "TOKENS/S", "UPTIME", "VERSION", "MODEL")


def is_served(statuses: Mapping[str, Status]) -> bool:
    """Whether a worker takes new sessions."""
    return any(status.state is State.ONLINE for status in statuses.values())


def as_json(statuses: Mapping[str, Status]) -> str:
    """A JSON list with one object per worker."""
    return json.dumps([{"worker": name, **asdict(status)} for name, status in statuses.items()], indent=2)


def as_table(statuses: Mapping[str, Status]) -> str:
    """Lines for people, without the numbers of offline workers."""
    rows = [_HEADINGS, *(_row(name, status) for name, status in statuses.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join([*(_line(row, widths) for row in rows), *_warnings(statuses)])


def _warnings(statuses: Mapping[str, Status]) -> Iterator[str]:
    """A line for each worker that will soon lose its connection for good."""
    for name, status in statuses.items():
        days = status.certificate_days
        if status.state is not State.OFFLINE and days is not None and days < WARN_DAYS:
            yield f"{name}: a TLS certificate {f'expires in {days} days' if days >= 0 else 'has expired'}"


def _row(name: str, status: Status) -> tuple[str, ...]:
    numbers = (
        str(status.sessions),
        str(status.queue),
        f"{status.batch_size:.1f}",
        f"{status.tokens_per_second:.1f}",
        _duration(status.uptime),
    )
    if status.state is State.OFFLINE:
        numbers = ("-",) * len(numbers)
    return (name, status.state.value, *numbers, status.version, status.model)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _duration(seconds: float) -> str:
    """The two largest units: 3d 4h, 5m 12s."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {seconds}s" if minutes else f"{seconds}s"
