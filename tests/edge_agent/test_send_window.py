"""The drafts in flight, one by one: which are sent again and when, and what else one generation remembers."""

import pytest

from common.protocol.messages import Draft, DraftToken, Reason, Refusal
from edge_agent.session.held import Piece
from edge_agent.session.refusals import MAX_REPEATS, MAX_WORKERS, Refusals
from edge_agent.session.round_trip import RoundTrip
from edge_agent.session.send_window import SendWindow
from edge_agent.session.tally import Tally
from edge_agent.session.transcript import Fate, Transcript
from tests.support.fakes import opening
from tests.support.narrowing import expect, present

Sent = list[tuple[str | None, int]]


def window_of(num_drafts: int, *, worker: str | None = None) -> SendWindow:
    """A window with so many drafts of one token, of which `worker` got each."""
    transcript = Transcript([1, 2, 3])
    window = SendWindow(transcript, opening(), RoundTrip(2.0, 0.5, 60.0), Tally())
    window.worker = worker
    for n in range(num_drafts):
        transcript.append(5 + n, None)
        piece = Piece(3 + n, [DraftToken(5 + n)])
        window.launch(piece, bonus=0, epoch=0, num_context_probs=0, now=0.0)
    return window


def sent(window: SendWindow) -> Sent:
    """The worker and the number of each draft that was sent since."""
    return [(one.worker, expect(Draft, one.message).n) for one in window.take_outgoing()]


def test_drafts_behind_the_first_go_up_as_soon_as_its_worker_is_known() -> None:
    window = window_of(3)
    assert sent(window) == [(None, 0)]
    window.answered_by("w1")
    window.settle_oldest()
    window.send_waiting(1.0)
    assert sent(window) == [("w1", 1), ("w1", 2)]


def test_what_the_worker_has_already_is_not_sent_again_when_it_answers_late() -> None:
    window = window_of(3, worker="w1")
    sent(window)
    window.ask_anyone(2.0)
    assert sent(window) == [(None, 0)]
    window.answered_by("w1")
    window.settle_oldest()
    window.send_waiting(3.0)
    assert sent(window) == []
    deadline = present(window.oldest).deadline
    assert deadline > 3.0
    window.send_waiting(5.0)
    assert present(window.oldest).deadline == deadline  # it has been given its time once


def test_what_may_be_lost_with_the_link_is_sent_again_though_the_same_worker_answers() -> None:
    window = window_of(3, worker="w1")
    sent(window)
    window.distrust()
    window.ask_anyone(2.0)
    window.answered_by("w1")
    window.settle_oldest()
    sent(window)
    window.send_waiting(3.0)
    assert sent(window) == [("w1", 1), ("w1", 2)]


def test_only_a_draft_that_was_sent_in_vain_makes_later_timeouts_longer() -> None:
    refused, silent = window_of(1), window_of(1)
    refused.pause(1.0)
    for window in (refused, silent):
        window.ask_anyone(1.0)
    assert present(refused.oldest).deadline == 1.0 + 2.0
    assert present(silent.oldest).deadline == 1.0 + 4.0


def test_a_refusal_for_good_counts_once_two_workers_agree_or_one_repeats_it() -> None:
    alone, pool = Refusals(0.1), Refusals(0.1)
    believed = [alone.settles(Refusal(0, Reason.TOO_LONG, "w0")) for _ in range(MAX_REPEATS)]
    assert believed == [False] * (MAX_REPEATS - 1) + [True]
    agreed = [pool.settles(Refusal(0, Reason.TOO_LONG, f"w{n}")) for n in range(MAX_WORKERS)]
    assert agreed == [False] * (MAX_WORKERS - 1) + [True]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("start", [3, 4, 6])
def test_measuring_some_skipped_tokens_leaves_the_others_to_be_measured(start: int, count: int) -> None:
    transcript = Transcript([1, 2, 3])
    for token in range(8):
        transcript.append(token, Fate.LOCAL)
    transcript.mark_measured(start, [0.5] * count)
    assert transcript.measured == (count, 0.5 * count)
    left = [position for run in transcript.unmeasured() for position in run]
    assert left == [position for position in range(3, 11) if not start <= position < start + count]
