"""The one way in which things happen later in a simulation."""

from collections.abc import Callable

import simpy


def later(env: simpy.Environment, seconds: float, action: Callable[[], None]) -> None:
    """Do something `seconds` from now; at once when that is not in the future."""
    if seconds <= 0:
        action()
        return

    def happen(_event: simpy.Event) -> None:
        action()

    event = env.timeout(seconds)
    assert event.callbacks is not None
    event.callbacks.append(happen)
