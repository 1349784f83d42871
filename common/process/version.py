"""The version of this release, for the status messages and metrics of both ends."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def release() -> str:
    """The installed version; "unknown" when run from a folder that was never installed."""
    try:
        return version("hybrid-lm")
    except PackageNotFoundError:
        return "unknown"
