"""The error of a target model that cannot be used."""

from cloud_worker.engines.engine import EngineError


class TargetModelError(EngineError):
    """The target model cannot be used; the message states why and what to do."""


def first_line(error: Exception) -> str:
    """The first line of an error's message, to be quoted in one of ours."""
    return str(error).split("\n")[0]
