"""Audits: what was skipped is measured after the text is final, whatever was sent before, and once."""

# what was measured is inside the session
# pyright: reportPrivateUsage=false

import asyncio

import numpy as np
import pytest

from common.link import Traffic
from common.protocol.messages import MAX_CONTEXT_PROBS, Close, Correction, Draft, Reason, Refusal
from common.sampling.distribution import decode_probs, encode_probs, warp
from edge_agent.errors import GenerationError
from edge_agent.generation.audits import Audits
from edge_agent.generation.mailbox import Inbox, Mailbox
from edge_agent.session.audit import LONGEST_AUDIT, Audit
from edge_agent.session.send_window import Outgoing
from edge_agent.session.settings import OnCloudLoss
from edge_agent.session.transcript import SKIPPED
from tests.support.circle import PROMPT, Circle
from tests.support.narrowing import expect, present


def finished(threshold: float, *, window: int = 1, max_tokens: int = 24, seed: int = 1) -> Circle:
    circle = Circle(
        scheme="opportunistic",
        seed=seed,
        window=window,
        max_tokens=max_tokens,
        threshold=threshold,
        on_cloud_loss=OnCloudLoss.WAIT,
        audits=True,
    )
    circle.settle()
    return circle


def audit_of(circle: Circle) -> Audit:
    audit = circle.edge.audit(circle.now)
    assert audit is not None
    return audit


def answer(circle: Circle, audit: Audit, *, opener: str = "w0") -> list[Draft | Close]:
    """Deliver everything until the audit is over; returns what it sent."""
    sent: list[Draft | Close] = []
    for _ in range(50):
        for outgoing in audit.take_outgoing():
            sent.append(outgoing.message)
            circle.to_workers.append(outgoing)
            circle.deliver_to_worker(len(circle.to_workers) - 1, opener=opener)
        if audit.over:
            return sent
        for name in circle.workers:
            while circle.workers[name].ready:
                circle.work(name)
        while circle.to_device:
            audit.receive(circle.to_device.pop(0), circle.now)
    raise AssertionError("the audit does not end")


def true_risk(circle: Circle) -> float:
    """The sum of max(0, 1 - y / q) over the skipped tokens, with y as one byte and q as it would be sent."""
    lost = 0.0
    tokens = list(circle.edge.tokens)
    for position in range(len(PROMPT), len(tokens)):
        if circle.final[position - len(PROMPT)].fate not in SKIPPED:
            continue
        logits = circle.draft_model.logits(tokens[:position])
        sent = present(circle.policy.propose(logits, position).draft.distribution)
        target = warp(circle.target.logits(tokens[:position]), circle.policy.sampling)[tokens[position]]
        coded = decode_probs(encode_probs(np.array([target])))[0]
        lost += max(0.0, 1.0 - coded / sent.dense(len(logits))[tokens[position]])
    return lost


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.75, 1.0])
@pytest.mark.parametrize("window", [1, 4])
def test_with_its_audit_a_text_has_every_skipped_token_measured(threshold: float, window: int) -> None:
    circle = finished(threshold=threshold, window=window, max_tokens=40)
    audit = audit_of(circle)
    answer(circle, audit)
    tally = circle.edge.tally
    tally.add(audit.tally)
    assert tally.num_measured == tally.num_skipped > 0
    assert tally.measured_risk_sum == pytest.approx(true_risk(circle))
    assert tally.measured_risk == pytest.approx(true_risk(circle) / tally.num_tokens)


def test_a_text_that_never_asked_is_audited_from_its_first_token() -> None:
    circle = finished(threshold=1.0)
    assert circle.edge.tally.num_uplinks == 0
    sent = answer(circle, audit_of(circle))
    assert [type(message) for message in sent] == [Draft, Close]
    whole = expect(Draft, sent[0])
    assert whole.context == tuple(circle.edge.tokens)
    assert whole.block == ()


def test_an_audit_sends_the_tail_only_to_the_worker_that_has_the_rest() -> None:
    circle = finished(threshold=0.6)
    assert circle.edge.tally.num_uplinks > 0
    sent = answer(circle, audit_of(circle))
    assert [type(message) for message in sent] == [Draft, Close]
    tail = expect(Draft, sent[0])
    assert len(tail.context) == tail.num_context_probs < circle.edge.tally.num_skipped


def test_a_long_text_is_audited_in_pieces() -> None:
    circle = finished(threshold=1.0, max_tokens=300)
    audit = audit_of(circle)
    sent = answer(circle, audit)
    assert [expect(Draft, message).num_context_probs for message in sent[:-1]] == [
        MAX_CONTEXT_PROBS,
        300 - MAX_CONTEXT_PROBS,
    ]
    assert (audit.tally.num_measured, audit.tally.num_audits) == (300, 2)


def test_what_a_lost_correction_left_unmeasured_is_asked_again() -> None:
    circle = finished(threshold=0.6, max_tokens=40)
    transcript = circle.edge._sequence.transcript
    transcript._measured = [False] * len(transcript._measured)
    audit = audit_of(circle)
    answer(circle, audit)
    assert audit.tally.num_measured == circle.edge.tally.num_skipped


def test_another_worker_gets_the_whole_text_when_the_first_has_forgotten_it() -> None:
    circle = finished(threshold=0.6, seed=3)
    assert circle.edge._sequence.transcript.unmeasured()
    circle.workers = {name: circle.new_worker(name) for name in circle.workers}
    audit = audit_of(circle)
    sent = answer(circle, audit)
    assert [expect(Draft, message).base > 0 for message in sent[:-1]] == [True, False]
    assert audit.tally.num_measured > 0


@pytest.mark.parametrize("refusal", [Refusal(0, Reason.TOO_LONG, "w"), Refusal(0, Reason.BAD_REQUEST, "w")])
def test_a_refused_audit_is_given_up(refusal: Refusal) -> None:
    circle = finished(threshold=1.0)
    audit = audit_of(circle)
    audit.receive(refusal, circle.now)
    assert audit.over
    assert audit.tally.num_measured == 0


def test_a_late_audit_is_given_up_and_later_answers_count_for_nothing() -> None:
    circle = finished(threshold=1.0)
    audit = audit_of(circle)
    for _ in range(2):  # asked once more, of whichever worker takes it
        assert audit.take_outgoing()[0].worker is None
        audit.tick(audit.deadline - 0.01)
        assert not audit.over
        audit.tick(audit.deadline)
    assert audit.over
    audit.receive(Correction(0, 0, None, "w0", context_codes=bytes(24)), circle.now)
    assert audit.tally.num_measured == 0


def test_an_answer_with_the_wrong_number_of_probabilities_measures_nothing() -> None:
    circle = finished(threshold=1.0)
    audit = audit_of(circle)
    audit.receive(Correction(0, 0, None, "w0", context_codes=bytes(3)), circle.now)
    assert audit.tally.num_measured == 0
    assert audit.over


def test_without_the_wish_there_is_no_audit_and_the_worker_is_told_the_end() -> None:
    circle = Circle(scheme="opportunistic", threshold=0.6)
    circle.settle()
    assert circle.edge.audit(circle.now) is None
    assert not any(worker.tokens for worker in circle.workers.values())
    assert any(worker.tokens for worker in finished(threshold=0.6).workers.values())


def test_an_audit_changes_no_token() -> None:
    with_audit, without = finished(threshold=0.6), Circle(scheme="opportunistic", threshold=0.6)
    without.settle()
    answer(with_audit, audit_of(with_audit))
    assert with_audit.text == without.text


def test_a_busy_worker_is_left_alone_as_long_as_it_says_and_another_is_asked() -> None:
    circle = finished(threshold=0.6, seed=3)
    audit = audit_of(circle)
    sent = audit.take_outgoing()[0]
    assert sent.worker is not None
    audit.receive(
        Refusal(expect(Draft, sent.message).n, Reason.BUSY, sent.worker, retry_after=0.75), circle.now
    )
    assert audit.deadline == circle.now + 0.75
    circle.now += 0.75
    audit.tick(circle.now)
    again = audit.take_outgoing()[0]
    asked, whole = expect(Draft, sent.message), expect(Draft, again.message)
    assert (again.worker, whole.base, whole.n) == (None, 0, asked.n)
    circle.to_workers.append(again)
    circle.deliver_to_worker(len(circle.to_workers) - 1, opener="w1")
    circle.work("w1")
    audit.receive(circle.to_device.pop(), circle.now)
    assert audit.over
    assert audit.tally.num_measured > 0


ENDLESS: list[Refusal] = [
    Refusal(0, Reason.BUSY, "liar", retry_after=3600.0),
    Refusal(0, Reason.BUSY, "liar", retry_after=float("inf")),
    Refusal(0, Reason.NEED_CONTEXT, "liar", have=2**32 - 1),
    Refusal(None, Reason.BUSY, "liar"),
]


@pytest.mark.parametrize("refusal", ENDLESS)
@pytest.mark.parametrize("interval", [0.1, 5.0])
def test_an_audit_ends_soon_however_often_a_worker_refuses_it(refusal: Refusal, interval: float) -> None:
    circle = finished(threshold=1.0)
    audit, began, num_sent = audit_of(circle), circle.now, 0
    while not audit.over:
        num_sent += len(audit.take_outgoing())
        audit.receive(refusal, circle.now)
        circle.now = min(circle.now + interval, audit.deadline)
        audit.tick(circle.now)
    assert num_sent <= 2
    assert circle.now <= began + LONGEST_AUDIT


def test_an_audit_in_many_pieces_ends_although_each_answer_comes_late() -> None:
    circle = finished(threshold=1.0, max_tokens=480)
    audit, began = audit_of(circle), circle.now
    audit._round_trip.observe(LONGEST_AUDIT)
    circle.now += 15.0
    audit.receive(Correction(0, 0, None, "liar", context_codes=bytes(256)), circle.now)
    assert not audit.over
    assert audit.deadline == began + LONGEST_AUDIT
    audit.tick(audit.deadline)
    assert audit.over


class TooSmall:
    """A carrier that takes nothing."""

    def join(self, session: str, inbox: Inbox, traffic: Traffic) -> None:
        pass

    def leave(self, session: str) -> None:
        pass

    async def send(self, session: str, outgoing: Outgoing) -> None:
        del session, outgoing
        raise GenerationError("a draft cannot be sent: it is too large")


def test_an_audit_that_is_larger_than_the_broker_takes_is_dropped_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[bool] = []

    async def audited() -> None:
        audits = Audits()
        audits.begin(audit_of(finished(threshold=1.0)), Mailbox("s", TooSmall()), lambda: ended.append(True))
        await audits.finished()

    asyncio.run(audited())
    assert ended == [True]
    assert [record.message for record in caplog.records] == [
        "an answer stays unmeasured: a draft cannot be sent: it is too large"
    ]
