"""The names under which the model is served: itself, and `name@scheme` for each scheme. Pure."""

from dataclasses import dataclass

from edge_agent.http.api_errors import unknown_model
from edge_agent.policy.schemes import SCHEMES

LATEST = ":latest"  # Ollama's clients add it


@dataclass(frozen=True, slots=True)
class Chosen:
    """A name, and the scheme that it asks for."""

    name: str
    scheme: str | None = None


def choose(name: str | None, served: str) -> Chosen:
    """What a client's name for the model means; none or an empty one is the served one. Raises ApiError."""
    if not name:
        return Chosen(served)
    base, _, scheme = name.removesuffix(LATEST).partition("@")
    if base.removesuffix(LATEST) != served or (scheme and scheme not in SCHEMES):
        raise unknown_model(name, f"{served}, or {served}@SCHEME")
    return Chosen(name, scheme or None)
