"""A link that is not up yet, or no longer: what is held, what is left unverified, and what is verified again.

Times are seconds on the circle's clock; `draft` takes 50 ms of it.
"""

from itertools import pairwise

import pytest

from common.protocol.messages import Correction, Draft
from edge_agent.session.cloud_loss import LEAST_GRACE
from edge_agent.session.events import LinkEvent
from edge_agent.session.settings import OnCloudLoss
from edge_agent.session.transcript import Fate
from tests.support.circle import PROMPT, Circle
from tests.support.narrowing import expect, present

TIMEOUT = 20.0
ASKING = ["lossless", "coupled", "auto", "hlm", "opportunistic", "cu-hlm-online"]


def cold(scheme: str = "lossless", since: float = 0.0) -> Circle:
    """A session of an agent that has been connecting since `since`; it begins at 0."""
    return Circle(
        scheme=scheme,
        window=2,
        on_cloud_loss=OnCloudLoss.LOCAL,
        cloud_timeout=TIMEOUT,
        connecting_since=since,
    )


def draft_until(circle: Circle, end: float) -> None:
    """Draft, and let deadlines pass, with a link that takes nothing."""
    while circle.now < end and not circle.edge.finished:
        circle.draft()
        circle.pass_time(0.25)
        circle.to_workers.clear()


def fates(circle: Circle) -> list[Fate]:
    return [item.fate for item in circle.final]


@pytest.mark.parametrize("scheme", [*ASKING, "llm"])
@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.4, 3.0, TIMEOUT - 1.0])
def test_a_cold_start_holds_its_drafts_until_the_first_connection_and_has_them_all_verified(
    scheme: str, seconds: float
) -> None:
    circle = cold(scheme)
    draft_until(circle, seconds)
    circle.advance(LinkEvent.UP)
    circle.settle()
    calm = Circle(scheme=scheme, window=2)
    calm.settle()
    assert circle.text == calm.text
    assert fates(circle) == fates(calm)
    assert Fate.UNVERIFIED not in fates(circle)
    assert circle.edge.cloud.reason is None


@pytest.mark.parametrize("scheme", [*ASKING, "llm"])
def test_nothing_is_sent_before_the_first_connection_and_all_of_it_once_afterwards(scheme: str) -> None:
    circle = cold(scheme)
    for _ in range(40):
        circle.draft()
        circle.pass_time(0.25)
    assert circle.to_workers == []
    assert circle.edge.tally.num_uplinks == 0
    circle.advance(LinkEvent.UP)
    assert [outgoing.worker for outgoing in circle.to_workers] == [None]
    circle.settle()
    assert circle.edge.tally.num_resent == 0


def test_the_time_before_the_connection_is_no_round_trip() -> None:
    circle = cold()
    draft_until(circle, 6.0)
    circle.advance(LinkEvent.UP)
    circle.settle()
    assert present(circle.edge.round_trip.smoothed) < 1.0


@pytest.mark.parametrize("scheme", ASKING)
def test_a_cold_start_goes_on_alone_when_the_first_connection_takes_longer_than_the_timeout(
    scheme: str,
) -> None:
    circle = cold(scheme)
    draft_until(circle, TIMEOUT - 0.5)
    assert Fate.UNVERIFIED not in fates(circle)
    assert not circle.edge.finished
    draft_until(circle, TIMEOUT + 30.0)
    assert circle.edge.finished
    assert circle.edge.failure is None
    assert circle.edge.cloud.reason == "the broker cannot be reached"
    assert Fate.UNVERIFIED in fates(circle)
    assert len(circle.final) == 24


def test_a_session_that_begins_later_waits_only_for_what_is_left_of_the_timeout() -> None:
    circle = cold(since=5.0 - TIMEOUT)
    draft_until(circle, 4.0)
    assert circle.final == []
    draft_until(circle, 5.5)
    assert circle.edge.cloud.reason == "the broker cannot be reached"


def test_a_session_of_an_agent_that_has_waited_in_vain_begins_alone() -> None:
    circle = cold(since=-TIMEOUT)
    for _ in range(60):
        circle.draft()
    assert circle.now < 2.0
    assert fates(circle) == [Fate.UNVERIFIED] * 24


def test_verification_begins_at_once_when_the_first_connection_comes_late() -> None:
    circle = cold(since=-TIMEOUT)
    while len(circle.final) < 6:
        circle.draft()
    circle.advance(LinkEvent.UP)
    circle.settle()
    assert set(fates(circle)[:6]) == {Fate.UNVERIFIED}
    assert not {Fate.UNVERIFIED, Fate.LOCAL} & set(fates(circle)[6:])


def test_a_worker_has_the_whole_timeout_to_answer_however_late_the_connection_came() -> None:
    circle = cold()
    draft_until(circle, TIMEOUT - 0.5)
    circle.advance(LinkEvent.UP)
    draft_until(circle, 2 * TIMEOUT - 1.0)
    assert circle.edge.cloud.reason is None
    draft_until(circle, 2 * TIMEOUT + 1.0)
    assert circle.edge.cloud.reason == "no worker answered for 20 s"


def test_the_target_alone_ends_with_one_sentence_when_there_is_no_connection_in_time() -> None:
    circle = cold("llm")
    draft_until(circle, TIMEOUT - 0.5)
    assert circle.edge.failure is None
    draft_until(circle, TIMEOUT + 1.0)
    assert circle.edge.failure == "the broker cannot be reached"


def test_a_cold_start_that_waits_reports_it_once_and_loses_nothing() -> None:
    circle = Circle(on_cloud_loss=OnCloudLoss.WAIT, cloud_timeout=TIMEOUT, connecting_since=0.0)
    draft_until(circle, 3 * TIMEOUT)
    assert circle.silences == ["the broker cannot be reached"]
    circle.advance(LinkEvent.UP)
    circle.settle()
    assert Fate.UNVERIFIED not in fates(circle)


# -- a link that was up --------------------------------------------------------------------------------


def answer_first(circle: Circle) -> None:
    """Draft and deliver until a worker has verified something."""
    while not circle.final:
        circle.draft()
        circle.exchange()


@pytest.mark.parametrize("scheme", ASKING)
def test_what_follows_an_interruption_is_verified_again_at_once(scheme: str) -> None:
    circle = Circle(scheme=scheme, on_cloud_loss=OnCloudLoss.LOCAL, max_tokens=60)
    answer_first(circle)
    circle.advance(LinkEvent.DOWN)
    circle.to_workers.clear()
    for _ in range(5):
        circle.draft()
    assert circle.to_workers == []
    assert circle.edge.cloud.reason == "the broker cannot be reached"
    circle.advance(LinkEvent.UP)
    num_before = len(circle.edge.tokens) - len(PROMPT)
    circle.settle()
    assert len(circle.final) > num_before
    assert Fate.UNVERIFIED not in fates(circle)[num_before:]


def test_a_session_that_begins_while_a_link_that_was_up_is_down_goes_on_alone_at_once() -> None:
    circle = Circle(on_cloud_loss=OnCloudLoss.LOCAL)
    circle.advance(LinkEvent.DOWN)
    for _ in range(5):
        circle.draft()
    assert fates(circle) == [Fate.UNVERIFIED] * 5


def test_a_pool_that_is_empty_just_after_an_interruption_is_waited_for() -> None:
    """Its workers are reconnecting too."""
    circle = Circle(on_cloud_loss=OnCloudLoss.LOCAL, max_tokens=40)
    circle.advance(LinkEvent.DOWN)
    circle.pass_time(3.0)
    circle.advance(LinkEvent.UP)
    while circle.edge.wants_draft and not circle.to_workers:
        circle.draft()
    circle.to_workers.clear()
    circle.advance(LinkEvent.NO_WORKER)
    assert present(circle.edge.deadline) <= circle.now + 0.5
    circle.settle()
    assert Fate.UNVERIFIED not in fates(circle)


def empty_at(circle: Circle, seconds: float) -> list[float]:
    """The times at which an empty pool was asked, until `seconds`."""
    asked: list[float] = []
    while circle.now < seconds and not circle.edge.finished:
        circle.draft()
        if circle.to_workers:
            asked.append(circle.now)
            circle.to_workers.clear()
            circle.advance(LinkEvent.NO_WORKER)
    return asked


def test_an_interruption_does_not_make_an_empty_pool_worth_waiting_for_for_long() -> None:
    circle = Circle(on_cloud_loss=OnCloudLoss.LOCAL, max_tokens=400)
    circle.advance(LinkEvent.DOWN)
    circle.advance(LinkEvent.UP)
    while circle.edge.cloud.reason != "no worker serves the pool":
        circle.draft()
        circle.pass_time(0.1)
        circle.to_workers.clear()
        circle.advance(LinkEvent.NO_WORKER)
    assert circle.now < 2 * LEAST_GRACE


def test_an_empty_pool_is_asked_again_after_pauses_that_double_up_to_the_timeout() -> None:
    circle = Circle(scheme="hlm", on_cloud_loss=OnCloudLoss.LOCAL, max_tokens=400, cloud_timeout=4.0)
    asked = empty_at(circle, 18.0)
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses == pytest.approx([0.5, 1.0, 2.0, 4.0, 4.0, 4.0], abs=0.1)


def test_a_worker_that_returns_is_used_after_the_next_pause_and_the_pauses_begin_again() -> None:
    circle = Circle(scheme="hlm", on_cloud_loss=OnCloudLoss.LOCAL, max_tokens=400)
    empty_at(circle, 4.0)
    num_alone = len(circle.final)
    while circle.edge.tally.num_tested < 3:
        circle.draft()
        circle.exchange()
    assert circle.now < 8.5
    assert len(circle.final) > num_alone
    began = circle.now
    asked = empty_at(circle, began + 3.0)
    assert asked[1] - asked[0] == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("event", [LinkEvent.DOWN, LinkEvent.NO_WORKER])
def test_the_target_alone_outlives_a_short_interruption(event: LinkEvent) -> None:
    """It has no draft model to go on with, so it waits, as under `fail`."""
    circle = Circle(scheme="llm", on_cloud_loss=OnCloudLoss.LOCAL, cloud_timeout=TIMEOUT)
    circle.to_workers.clear()
    circle.advance(event)
    circle.pass_time(3.0)
    circle.advance(LinkEvent.UP)
    circle.settle()
    assert circle.edge.failure is None
    assert set(fates(circle)) == {Fate.TARGET}


def test_while_the_link_is_down_nothing_is_sent_and_afterwards_the_text_is_the_same() -> None:
    circle = Circle(window=3)
    answer_first(circle)
    circle.to_workers.clear()
    circle.advance(LinkEvent.DOWN)
    for _ in range(40):
        circle.draft()
        circle.pass_time(0.25)
    assert circle.to_workers == []
    circle.advance(LinkEvent.UP)
    assert expect(Draft, circle.to_workers[0].message).base == 0
    circle.settle()
    calm = Circle(window=3)
    calm.settle()
    assert circle.text == calm.text


def test_a_stream_that_an_interruption_broke_off_goes_on_where_it_was() -> None:
    circle = Circle(scheme="llm", on_cloud_loss=OnCloudLoss.LOCAL)
    circle.advance(Correction(0, 0, 7, "w0"), Correction(0, 0, 8, "w0", index=1))
    circle.to_workers.clear()
    circle.advance(LinkEvent.DOWN)
    circle.pass_time(8.0)
    circle.advance(LinkEvent.UP)
    draft = expect(Draft, circle.to_workers[0].message)
    assert draft.context[-2:] == (7, 8)
    circle.settle()
    assert len(circle.text) == 24
