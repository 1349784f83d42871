"""`auto`: who writes on follows from measured times; the text never does (see tests/laws)."""

import pytest

from common.protocol.messages import Draft
from edge_agent.session.plan import Times, best_plan
from edge_agent.session.rejection_rate import RejectionRate
from edge_agent.session.streaming import (
    EVIDENCE,
    MAX_SHADOWS,
    MAX_TAKEOVERS,
    Guess,
    Outlook,
    Streamed,
    Streaming,
)
from edge_agent.session.transcript import Fate
from edge_agent.tuning.faster import LEAST_PAUSE, LEAST_TOKENS, Faster
from tests.support.circle import Circle

SLOW_TARGET = Times(draft=0.03, network=0.01, base=0.3, slope=0.01)
QUICK_TARGET = Times(draft=0.1, network=0.05, base=0.006, slope=0.0)
NEAR = Times(draft=0.005, network=0.05, base=0.012, slope=0.0)  # easy texts are drafted faster, others not


def outlook(times: Times, rejection: float = 0.2) -> Outlook:
    return Outlook(times, best_plan(times, rejection, drafts_ahead=True))


def streaming(known: Streamed | None = None) -> Streaming:
    return Streaming(known or Streamed(), is_allowed=True)


def test_an_agent_that_knows_nothing_streams_and_drafts_beside_it() -> None:
    way = streaming()
    way.begin(None, num_unread=30)
    assert way.is_chosen
    assert way.wants_shadow(None)


def test_a_scheme_that_may_not_stream_never_does() -> None:
    way = Streaming(Streamed(), is_allowed=False)
    way.begin(outlook(QUICK_TARGET), num_unread=30)
    way.answered(outlook(QUICK_TARGET), 1.0, 50, EVIDENCE)
    assert not way.is_chosen


@pytest.mark.parametrize(("times", "is_chosen"), [(SLOW_TARGET, False), (QUICK_TARGET, True)])
def test_a_text_begins_with_what_is_faster(times: Times, *, is_chosen: bool) -> None:
    way = streaming()
    way.begin(outlook(times), num_unread=1)
    assert way.is_chosen is is_chosen


def test_a_prompt_that_the_device_reads_slowly_is_answered_by_the_target_meanwhile() -> None:
    way = streaming(Streamed(reading=0.05))
    way.begin(outlook(SLOW_TARGET), num_unread=1000)
    assert way.is_chosen
    assert not way.takes_over(outlook(SLOW_TARGET), num_left=200)  # it has not read the prompt
    way.shadowed(num_new=1000)
    assert not way.takes_over(outlook(SLOW_TARGET), num_left=200)  # nor what has come since
    way.shadowed(num_new=1)
    assert way.takes_over(outlook(SLOW_TARGET), num_left=200)


def test_a_hard_text_goes_on_without_drafts_once_there_is_evidence() -> None:
    hard = outlook(NEAR, rejection=0.5)
    way = streaming()
    way.answered(hard, 1.0, 5, EVIDENCE - 1)
    assert not way.is_chosen
    way.answered(hard, 1.5, 12, EVIDENCE)
    assert way.is_chosen


def test_what_drafting_really_took_corrects_its_plan() -> None:
    there = outlook(NEAR, rejection=0.1)
    good, bad = streaming(), streaming()
    for way, seconds in ((good, 0.02), (bad, 1.0)):
        for number in range(6):
            way.answered(there, number * seconds, 4 * number, 4)
    assert bad.drafting_rate(there) < there.plan.rate < good.drafting_rate(there)
    assert bad.learned(RejectionRate()).bias < 1.0 < good.learned(RejectionRate()).bias


def test_a_stream_is_not_broken_off_for_a_rest_that_is_shorter_than_the_stall() -> None:
    far = outlook(Times(draft=0.005, network=0.5, base=0.06, slope=0.0), rejection=0.005)
    way = streaming()
    way.shadowed(num_new=1)
    assert way.takes_over(far, num_left=40)
    assert not way.takes_over(far, num_left=4)


def test_takeovers_and_drafts_beside_a_stream_are_bounded() -> None:
    way = streaming()
    way.shadowed(num_new=1)
    for _ in range(MAX_TAKEOVERS):
        assert way.takes_over(outlook(SLOW_TARGET), num_left=100)
        way.take_over()
    assert not way.takes_over(outlook(SLOW_TARGET), num_left=100)
    other = streaming()
    for _ in range(MAX_SHADOWS):
        assert other.wants_shadow(outlook(NEAR))
        other.shadowed(num_new=1)
    assert not other.wants_shadow(outlook(NEAR))


def test_where_not_even_an_easy_text_is_drafted_faster_the_draft_model_rests() -> None:
    assert not streaming().wants_shadow(outlook(QUICK_TARGET))


def test_one_draft_beside_the_stream_at_a_time() -> None:
    way = streaming()
    way.guess = Guess(5, 1, 0.1)
    assert not way.wants_shadow(outlook(NEAR))


def streamed_circle(**settings: int) -> Circle:
    return Circle(scheme="auto", window=None, block_length=None, **settings)  # pyright: ignore[reportArgumentType]


def test_a_stream_is_broken_off_by_the_first_draft_that_pays() -> None:
    circle = streamed_circle(max_tokens=200)
    stream = next(one.message for one in circle.to_workers if isinstance(one.message, Draft))
    assert stream.bonus == 200
    for _ in range(100):
        circle.draft()
        circle.pass_time(1.0)  # a slow pass
        circle.exchange()
        if circle.edge.finished:
            break
    fates = {one.fate for one in circle.final}
    assert Fate.TARGET in fates
    circle.settle()
    alone = Circle(scheme="llm", max_tokens=200)
    alone.settle()
    assert circle.text == alone.text


def test_the_faster_scheme_answers_and_the_other_is_tried_seldom() -> None:
    faster = Faster(("a", "b"))
    names: list[str] = []
    for _ in range(200):
        names.append(faster.choose())
        faster.ended(names[-1], 2.0 if names[-1] == "a" else 1.0, 20)
    assert names[:2] == ["a", "b"]
    assert 2 <= names.count("a") <= 8  # twice as slow: 33 answers apart


def test_a_scheme_that_has_become_faster_is_found_out() -> None:
    faster = Faster(("a", "b"))
    for _ in range(3):
        for name, seconds in (("a", 1.1), ("b", 1.0)):
            faster.ended(name, seconds, 20)
    for _ in range(5 * LEAST_PAUSE):
        faster.ended(name := faster.choose(), 0.5 if name == "a" else 1.0, 20)
    assert faster.choose() == "a"


def test_a_few_tokens_say_nothing_about_speed() -> None:
    faster = Faster(("a", "b"))
    faster.ended("a", 9.0, LEAST_TOKENS - 1)
    assert faster.choose() == "a"
