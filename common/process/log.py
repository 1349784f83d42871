"""Log records on standard error, as lines for people or as JSON objects for machines.

Law: a record about a session names it in both forms (`about`). A record is one line: what an untrusted peer
sent can neither start a line of its own nor control a terminal. Only tracebacks in text have several lines,
none of which controls a terminal.
"""

import json
import logging
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import TypeAlias

LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")

_Raised: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_subject: ContextVar[Mapping[str, str] | None] = ContextVar("subject", default=None)


def configure_logging(level: str, form: str, *, text_format: str) -> None:
    """Log from `level` up in one of LOG_FORMATS; `text_format` is logging's format for the form "text"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_subject)
    handler.setFormatter(_Json() if form == "json" else _Text(text_format))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


@contextmanager
def about(**names: str) -> Generator[None]:
    """Add names such as `session="3f2a"` to the records within. Not for a block that yields to its caller."""
    token = _subject.set({**(_subject.get() or {}), **names})
    try:
        yield
    finally:
        _subject.reset(token)


def _add_subject(record: logging.LogRecord) -> bool:
    record.subject = _subject.get() or {}
    return True


def _subject_of(record: logging.LogRecord) -> Mapping[str, str]:
    return getattr(record, "subject", {})


def printable(text: str) -> str:
    """The text in one line, in which nothing controls a terminal or changes the direction of writing."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


class _Text(logging.Formatter):
    """The record, followed by what it is about in brackets."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        record.message = printable(record.message)
        names = " ".join(f"{kind} {printable(name)}" for kind, name in _subject_of(record).items())
        return super().formatMessage(record) + (f" [{names}]" if names else "")

    def formatException(self, ei: _Raised) -> str:  # noqa: N802  # logging's name
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


class _Json(logging.Formatter):
    """One object per line: time (UTC), level, logger, message, what it is about, a traceback as `error`."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_subject_of(record),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields)
