"""How the simulation does something later, in virtual time."""

from collections.abc import Callable

import simpy


def later(env: simpy.Environment, seconds: float, action: Callable[[], None]) -> None:
    """Call `action` in `seconds`, or at once if that is not in the future."""
    if seconds <= 0:
        action()
        return

    def happen(_event: simpy.Event) -> None:
        action()

    event = env.timeout(seconds)
    assert event.callbacks is not None
    event.callbacks.append(happen)
