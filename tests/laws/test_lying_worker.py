"""One worker of a pool that refuses, lies about times or is silent costs a session time, never the session.

The broker deals what goes to any worker in turn, or always to the liar first; times are the circle's.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from common.protocol.messages import Correction, Draft, Reason, Refusal, ToDevice
from edge_agent.session.events import LinkEvent
from edge_agent.session.refusals import FIRST_PAUSE, LONGEST_PAUSE, MAX_REPEATS, SHORT_PAUSE, Refusals
from edge_agent.session.settings import OnCloudLoss
from tests.support.circle import Circle
from tests.support.narrowing import expect, present

Lie = Callable[[Draft], Sequence[ToDevice]]
HOUR = 3600.0
LIES: dict[str, Lie] = {
    "busy for an hour": lambda draft: [Refusal(draft.n, Reason.BUSY, "liar", retry_after=HOUR)],
    "busy, many times": lambda draft: [Refusal(draft.n, Reason.BUSY, "liar", retry_after=HOUR)] * 50,
    "need_context": lambda draft: [Refusal(draft.n, Reason.NEED_CONTEXT, "liar")],
    "need_context, holding it all": lambda draft: [
        Refusal(draft.n, Reason.NEED_CONTEXT, "liar", have=2**32 - 1)
    ],
    "need_context of a worker that is not there": lambda draft: [
        Refusal(draft.n, Reason.NEED_CONTEXT, "ghost")
    ],
    "bad_request": lambda draft: [Refusal(draft.n, Reason.BAD_REQUEST, "liar", "no")],
    "bad_request, many times": lambda draft: [Refusal(draft.n, Reason.BAD_REQUEST, "liar", "no")] * 50,
    "tokenizer_mismatch": lambda draft: [Refusal(draft.n, Reason.TOKENIZER_MISMATCH, "liar", "no")],
    "unsupported_version": lambda draft: [Refusal(draft.n, Reason.UNSUPPORTED_VERSION, "liar", "no")],
    "too_long": lambda draft: [Refusal(draft.n, Reason.TOO_LONG, "liar", "no", have=1)],
    "too_long for more than is there": lambda draft: [Refusal(draft.n, Reason.TOO_LONG, "liar", have=10**9)],
    "leaving": lambda _: [Refusal(None, Reason.BUSY, "liar")],
    "silent": lambda _: [],
}
SILENT = {"silent", "leaving", "need_context of a worker that is not there"}  # only a deadline ends these


def run(circle: Circle, lie: Lie, deal: Sequence[str], *, seconds: float = 300.0) -> list[float]:
    """Let the circle run; `deal` names who gets the next messages on `open`, and then w0 gets them all.

    Returns when the liar got one.
    """
    dealt, heard = list(deal), list[float]()
    while not circle.edge.finished and circle.now < seconds:
        circle.draft()
        while circle.to_workers:
            name = circle.to_workers[0].worker or (dealt.pop(0) if dealt else "w0")
            if name in circle.workers:
                circle.deliver_to_worker(0, opener=name)
                continue
            message = circle.to_workers.pop(0).message
            if name == "liar" and isinstance(message, Draft):
                heard.append(circle.now)
                circle.to_device += lie(message)
        for name in circle.workers:
            while circle.workers[name].ready:
                circle.work(name)
        while circle.to_device:
            circle.deliver_to_device(0)
        is_waiting = not circle.edge.wants_draft and not circle.to_workers
        if is_waiting and not circle.edge.finished:
            circle.pass_time(max(0.0, present(circle.edge.deadline) - circle.now))
    return heard


@pytest.mark.parametrize("scheme", ["lossless", "hlm", "llm"])
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_session_that_meets_a_liar_twice_is_served_by_the_next_worker_with_the_same_text(
    lie: Lie, scheme: str
) -> None:
    calm, circle = (
        Circle(scheme=scheme, window=2),
        Circle(scheme=scheme, window=2, on_cloud_loss=OnCloudLoss.FAIL, cloud_timeout=20.0),
    )
    calm.settle()
    run(circle, lie, ["liar", "liar"])
    assert circle.edge.failure is None
    assert circle.text == calm.text


@pytest.mark.parametrize("lie", [lie for name, lie in LIES.items() if name not in SILENT])
def test_a_lie_costs_a_few_seconds(lie: Lie) -> None:
    circle = Circle(on_cloud_loss=OnCloudLoss.FAIL)
    run(circle, lie, ["liar", "liar"])
    assert circle.now < 6.0


@pytest.mark.parametrize("policy", OnCloudLoss)
def test_a_pool_that_deals_in_turn_serves_each_session_under_every_policy(policy: OnCloudLoss) -> None:
    for first in (["liar"], ["w0", "liar", "w1", "liar"]):
        circle = Circle(on_cloud_loss=policy)
        run(circle, LIES["busy for an hour"], first)
        assert circle.edge.failure is None
        assert circle.edge.cloud.reason is None


def test_a_pool_that_is_full_is_asked_less_and_less_often() -> None:
    circle = Circle(on_cloud_loss=OnCloudLoss.WAIT)
    asked = run(circle, LIES["busy for an hour"], ["liar"] * 10_000, seconds=1000.0)
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses[:4] == pytest.approx([FIRST_PAUSE] * 4)
    assert pauses == pytest.approx(sorted(pauses))
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE)


def test_a_pool_that_asks_for_a_second_gets_it_however_long_it_is_full() -> None:
    circle = Circle(on_cloud_loss=OnCloudLoss.WAIT)
    busy: Lie = lambda draft: [Refusal(draft.n, Reason.BUSY, "liar", retry_after=1.0)]  # noqa: E731
    asked = run(circle, busy, ["liar"] * 10_000, seconds=100.0)
    assert len(asked) == pytest.approx(100, abs=2)


def test_what_two_workers_refuse_for_good_is_an_error_soon() -> None:
    circle = Circle(window=2)
    while circle.edge.wants_draft:
        circle.draft()
    circle.advance(Refusal(0, Reason.BAD_REQUEST, "w0", "no"), Refusal(0, Reason.BAD_REQUEST, "w0", "no"))
    assert circle.edge.failure is None
    circle.pass_time(SHORT_PAUSE)
    circle.advance(Refusal(0, Reason.BAD_REQUEST, "w1", "not here either"))
    assert "not here either" in present(circle.edge.failure)
    assert circle.now < 1.0


def test_what_the_only_worker_refuses_for_good_is_an_error_after_a_few_tries() -> None:
    circle = Circle()
    run(circle, LIES["tokenizer_mismatch"], ["liar"] * 100)
    assert "use a draft and a target model of one family" in present(circle.edge.failure)
    assert circle.now < 1.0
    assert circle.edge.tally.num_resent == MAX_REPEATS - 1


def test_refusals_of_a_worker_that_was_not_asked_count_for_nothing() -> None:
    calm, circle = Circle(window=3), Circle(window=3)
    calm.settle()
    circle.draft()
    for _ in range(400):
        circle.exchange()
        circle.draft()
        if circle.edge.worker == "w0":
            for outgoing in circle.to_workers:
                n = outgoing.message.n if isinstance(outgoing.message, Draft) else None
                circle.advance(*(Refusal(n, reason, "liar", retry_after=HOUR) for reason in Reason))
            assert circle.edge.worker in ("w0", None)
    assert circle.edge.failure is None
    assert circle.text == calm.text
    assert circle.edge.tally.num_resent == 0


@pytest.mark.parametrize("compute_ms", [0.0, 1e3, 429_496_729.5])
def test_a_worker_that_claims_to_have_computed_for_days_is_taken_to_have_used_the_round_trip(
    compute_ms: float,
) -> None:
    circle = Circle()
    while not circle.to_workers:
        circle.draft()
    draft = expect(Draft, circle.to_workers.pop().message)
    circle.now += 0.25
    token = 1 if draft.bonus else None
    circle.advance(Correction(draft.n, len(draft.block), token, "liar", compute_ms=compute_ms))
    assert circle.edge.pacing.passes.seconds <= 0.25


@pytest.mark.parametrize("event", [LinkEvent.NO_WORKER, LinkEvent.BUSY])
def test_what_the_link_reports_during_a_pause_does_not_make_it_longer(event: LinkEvent) -> None:
    circle = Circle(on_cloud_loss=OnCloudLoss.WAIT)
    while circle.edge.wants_draft:
        circle.draft()
    circle.advance(Refusal(0, Reason.BUSY, "liar", retry_after=HOUR), event)
    assert present(circle.edge.deadline) <= circle.now + FIRST_PAUSE


@pytest.mark.parametrize("retry_after", [0.0, 1e-9, 3.0, HOUR, float("inf"), float("nan")])
def test_a_pause_is_never_shorter_than_the_least_nor_longer_than_its_bound(retry_after: float) -> None:
    refusals = Refusals(0.5)
    refusal = Refusal(0, Reason.BUSY, "w", retry_after=retry_after)
    for now in (0.0, 1.0, 10.0, 1e6):
        assert 0.5 <= refusals.pause(refusal, now) <= max(FIRST_PAUSE, min(now / 4, LONGEST_PAUSE))
