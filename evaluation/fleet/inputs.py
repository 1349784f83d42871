"""The times that a fleet is simulated with, measured or assumed, from one JSON file.

Law: every figure states its source; an assumed profile has "assumed" in its name.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.process.settings import SettingsError
from evaluation.fleet.traces import SchemeTraces

INPUTS = Path(__file__).with_name("inputs.json")


@dataclass(frozen=True, slots=True)
class PassTime:
    """A fit of the seconds of one forward pass: `fixed + per_session * sessions + per_token * new tokens`.

    `ratios` are measured times over fitted ones; each pass draws one. `leaves_core`: the worker's event loop
    has a processor core to itself while the model runs (true for a GPU, false for a model on the only core).
    """

    fixed: float
    per_session: float
    per_token: float
    source: str
    ratios: Sequence[float] = (1.0,)
    leaves_core: bool = False

    def seconds(self, num_sessions: int, num_tokens: int) -> float:
        """Return the fitted seconds."""
        return self.fixed + self.per_session * num_sessions + self.per_token * num_tokens

    def draw(self, rng: random.Random, num_sessions: int, num_tokens: int) -> float:
        """Draw the seconds of one such pass."""
        return rng.choice(self.ratios) * self.seconds(num_sessions, num_tokens)


@dataclass(frozen=True, slots=True)
class LoopTime:
    """Processor seconds of a worker apart from its model, per draft and per pass.

    Reading (the socket, MQTT, decoding, queueing) continues while a pass runs in its thread; answering
    (verifying, encoding, sending) happens between two passes.
    """

    reading: float
    reading_a_pass: float
    answering: float
    answering_a_pass: float
    source: str


@dataclass(frozen=True, slots=True)
class BrokerTime:
    """One mosquitto: processor seconds per message (in and out) and per ping, bytes per connection.

    `hops` is a sample of hop latencies in seconds, from publisher to subscriber, with an idle broker.
    """

    per_message: float
    per_ping: float
    hops: Sequence[float]
    connection_bytes: float
    source: str
    loads: Sequence[Mapping[str, float]] = ()  # measurements with fewer connections


@dataclass(frozen=True, slots=True)
class Inputs:
    """All inputs; `targets` are pass times by profile."""

    broker: BrokerTime
    loop: LoopTime
    targets: Mapping[str, PassTime]
    schemes: Mapping[str, SchemeTraces]
    source: str


def load_inputs(path: Path) -> Inputs:
    """Read the file; SettingsError if it is missing or has other contents."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Inputs(
            BrokerTime(**found["broker"]),
            LoopTime(**found["loop"]),
            {name: PassTime(**each) for name, each in found["targets"].items()},
            {name: SchemeTraces.from_json(each) for name, each in found["schemes"].items()},
            found["source"],
        )
    except FileNotFoundError as error:
        raise SettingsError(f"there is no {path}: make it with python -m benchmarks.fleet_inputs") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path} has no fleet inputs ({error}): make it with python -m benchmarks.fleet_inputs"
        ) from error
