"""A worker that has become slow is asked again a few times, until the device knows how slow it is."""

from dataclasses import replace

import pytest

from common.protocol.messages import Correction, ToDevice
from tests.laws.test_sessions import undisturbed
from tests.support.circle import Circle


def timed(answer: ToDevice, seconds: float) -> ToDevice:
    return replace(answer, compute_ms=1000 * seconds) if isinstance(answer, Correction) else answer


def run(circle: Circle, *passes: float, reports: bool = True) -> int:
    """Run to the end with one worker whose passes take these seconds, the last one for good.

    `reports` False: it reports a short pass, as where the draft waits behind others. Returns how many passes
    it has run.
    """
    answers: list[tuple[float, ToDevice]] = []
    free_at, num_passes = 0.0, 0
    while not circle.edge.finished:
        circle.draft()
        while circle.to_workers:
            circle.deliver_to_worker(0)
        if circle.now >= free_at and circle.workers["w0"].ready:
            circle.work("w0")
            seconds = passes[min(num_passes, len(passes) - 1)]
            free_at = circle.now + seconds
            num_passes += 1
            answers += [
                (free_at, timed(answer, seconds if reports else 0.001)) for answer in circle.to_device
            ]
            circle.to_device.clear()
        for due, answer in [one for one in answers if one[0] <= circle.now]:
            answers.remove((due, answer))
            circle.advance(answer)
        if not circle.edge.finished and not circle.edge.wants_draft:
            events = [free_at, *(due for due, _ in answers), circle.edge.deadline or circle.now]
            circle.pass_time(max(0.01, min(due for due in events if due > circle.now) - circle.now))
    return num_passes


@pytest.mark.parametrize("reports", [True, False])
@pytest.mark.parametrize("window", [None, 1, 4])
def test_a_worker_that_becomes_slow_is_soon_asked_once_per_draft(window: int | None, reports: bool) -> None:
    circle = Circle(window=window, block_length=None if window is None else 2, max_tokens=60, num_workers=1)
    num_passes = run(circle, *[0.05] * 8, 3.0, reports=reports)
    assert num_passes > 14
    assert circle.edge.tally.num_resent <= 7
    assert circle.text == undisturbed(max_tokens=60)


@pytest.mark.parametrize("window", [None, 4])
def test_a_steady_worker_is_never_asked_twice(window: int | None) -> None:
    for seconds in (0.02, 0.3, 2.0):
        circle = Circle(window=window, max_tokens=40, num_workers=1)
        run(circle, seconds)
        assert circle.edge.tally.num_resent == 0
