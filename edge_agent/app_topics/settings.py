"""What an app changes with `set`, and which answer it ends with `cancel`. Pure."""

from edge_agent.app_topics.asks import Id, Options, parse_id, parse_options
from edge_agent.app_topics.json_objects import read_object, read_object_or_text
from edge_agent.app_topics.refusal import RefusalError

SETTABLE = ("scheme", "risk", "threshold", "on_cloud_loss")


def parse_set(payload: bytes) -> Options:
    """The settings to change; null means the agent's own again. RefusalError if there is none.

    A risk without a scheme chooses opportunistic, which is the one that keeps it.
    """
    found = read_object(payload)
    if unknown := found.keys() - {*SETTABLE, "id"}:
        raise RefusalError(f"{sorted(unknown)[0][:40]!r} cannot be set: use {', '.join(SETTABLE)}")
    options = parse_options(found)
    settings: Options = {name: options.get(name) for name in SETTABLE if name in found}
    if not settings:
        raise RefusalError(f"nothing to set: give {', '.join(SETTABLE)}")
    if settings.get("risk") is not None:
        settings.setdefault("scheme", "opportunistic")
    return settings


def parse_cancel(payload: bytes) -> Id | None:
    """The id of the answer to end; None, as for anything that is no object with an id: the one that runs."""
    try:
        found = read_object_or_text(payload)
        return None if isinstance(found, str) else parse_id(found)
    except RefusalError:
        return None
