"""The times that a fleet is simulated with, measured on a machine or assumed, as one JSON file tells.

Law: every number says where it comes from; an assumed profile has "assumed" in its name.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.settings import SettingsError
from evaluation.fleet.traces import SchemeTraces


@dataclass(frozen=True, slots=True)
class PassTime:
    """Seconds of one forward pass: `fixed + per_session * sessions + per_token * new tokens`.

    `per_draft` is the worker's loop around it: decoding, verifying and answering one draft.
    """

    fixed: float
    per_session: float
    per_token: float
    per_draft: float
    source: str

    def seconds(self, num_sessions: int, num_tokens: int, num_drafts: int) -> float:
        """Of a pass with its loop."""
        return (
            self.fixed
            + self.per_session * num_sessions
            + self.per_token * num_tokens
            + self.per_draft * num_drafts
        )


@dataclass(frozen=True, slots=True)
class BrokerTime:
    """One mosquitto: processor seconds a message (in and out) and a ping; seconds of a hop when idle.

    `hops` is a sample of hop latencies (publisher to subscriber); memory is bytes a connection.
    """

    per_message: float
    per_ping: float
    hops: Sequence[float]
    connection_bytes: float
    source: str
    loads: Sequence[Mapping[str, float]] = ()  # what was measured with fewer connections


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything measured; `targets` are pass times by profile."""

    broker: BrokerTime
    targets: Mapping[str, PassTime]
    schemes: Mapping[str, SchemeTraces]
    source: str


def load_inputs(path: Path) -> Inputs:
    """Read the file; SettingsError when it is missing or is something else."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Inputs(
            BrokerTime(**found["broker"]),
            {name: PassTime(**each) for name, each in found["targets"].items()},
            {name: SchemeTraces.from_json(each) for name, each in found["schemes"].items()},
            found["source"],
        )
    except FileNotFoundError as error:
        raise SettingsError(f"there is no {path}: make it with python -m benchmarks.fleet_inputs") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{path} holds no fleet inputs ({error}): make it anew") from error
