"""Both ends joined: the text must not know of the window, the blocks, the workers or the link."""

from typing import Unpack

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_worker.session.verification import target_choice
from common.protocol.messages import Correction, Draft, Opening, Reason, Refusal
from common.sampling.distribution import Sampling, warp
from edge_agent.session.events import LinkEvent
from edge_agent.session.settings import OnCloudLoss
from edge_agent.session.transcript import Fate
from tests.support.circle import PROMPT, Chosen, Circle
from tests.support.fakes import FakeModel
from tests.support.narrowing import expect, present

EXACT = ["lossless", "coupled", "auto"]
UPLINKING = ["hlm", "rand-hlm", "u-hlm", "cu-hlm-offline", "cu-hlm-online", "opportunistic", *EXACT, "llm"]


def undisturbed(**settings: Unpack[Chosen]) -> list[int]:
    circle = Circle(**settings)
    circle.settle()
    assert circle.edge.failure is None
    return circle.text


def target_text(seed: int, temperature: float, length: int = 24) -> list[int]:
    """What the target model writes alone, with the noise of the seed."""
    tokens = list(PROMPT)
    for position in range(len(PROMPT), len(PROMPT) + length):
        probs = warp(FakeModel(0).logits(tokens), Sampling(temperature))
        tokens.append(target_choice(probs, seed, position))
    return tokens[len(PROMPT) :]


@pytest.mark.parametrize("scheme", EXACT)
@given(window=st.none() | st.integers(1, 5), block_length=st.none() | st.integers(1, 6))
@settings(max_examples=20)
def test_greedy_text_is_the_targets_own(scheme: str, window: int | None, block_length: int | None) -> None:
    text = undisturbed(scheme=scheme, temperature=0.0, window=window, block_length=block_length)
    assert text == target_text(1, 0.0)


@given(seed=st.integers(0, 1000), window=st.integers(1, 5))
@settings(max_examples=20)
def test_coupled_text_is_what_the_target_samples_alone(seed: int, window: int) -> None:
    expected = target_text(seed, 1.0)
    assert undisturbed(scheme="coupled", seed=seed, window=window) == expected
    assert undisturbed(scheme="auto", seed=seed, window=window) == expected
    assert undisturbed(scheme="auto", seed=seed, window=None, block_length=None) == expected
    assert undisturbed(scheme="llm", seed=seed) == expected


@pytest.mark.parametrize("scheme", UPLINKING)
@given(seed=st.integers(0, 1000))
@settings(max_examples=15)
def test_the_text_does_not_depend_on_window_or_block_length(scheme: str, seed: int) -> None:
    texts = [
        undisturbed(scheme=scheme, seed=seed, window=window, block_length=block)
        for window, block in [(1, 4), (8, 4), (1, 1), (3, 8), (1, None), (4, None), (None, None)]
    ]
    assert all(text == texts[0] for text in texts)


def test_lossless_sampling_has_the_targets_law_over_two_positions() -> None:
    """Summed over seeds: the joint law of the first two tokens, through both state machines."""
    counts = np.zeros((12, 12))
    for seed in range(3000):
        text = undisturbed(seed=seed, max_tokens=2, window=2, block_length=2)
        counts[text[0], text[1]] += 1
    model, law = FakeModel(0), np.zeros((12, 12))
    first = warp(model.logits(PROMPT), Sampling())
    for token in range(12):
        law[token] = first[token] * warp(model.logits([*PROMPT, token]), Sampling())
    assert 0.5 * np.abs(counts / 3000 - law).sum() < 0.06


def test_slm_sends_nothing() -> None:
    circle = Circle(scheme="slm")
    circle.settle()
    assert circle.edge.tally.num_uplinks == 0
    assert circle.edge.tally.num_by_fate[Fate.LOCAL] == 24


def test_a_certain_session_sends_nothing_at_all() -> None:
    circle = Circle(scheme="opportunistic", threshold=1.0)
    circle.settle()
    assert circle.edge.tally.num_uplinks == 0


def test_a_stop_token_ends_the_text_and_closes_the_session() -> None:
    free = undisturbed(scheme="coupled", temperature=0.0)
    stop = free[5]
    text = undisturbed(scheme="coupled", temperature=0.0, stop_ids=frozenset([stop]), window=4)
    assert text == free[: free.index(stop) + 1]


def test_tokens_skipped_before_an_uplink_are_measured_afterwards() -> None:
    circle = Circle(scheme="opportunistic", threshold=0.75, max_tokens=60)
    circle.settle()
    tally = circle.edge.tally
    assert 0 < tally.num_measured <= tally.num_by_fate[Fate.LOCAL]
    assert 0.0 < present(tally.measured_risk) < 1.0


def test_a_late_correction_is_ignored() -> None:
    circle = Circle(window=1)
    circle.draft()
    while circle.edge.wants_draft:
        circle.draft()
    circle.deliver_to_worker(0)
    circle.work("w0")
    circle.deliver_to_device(0, keep=True)
    before = list(circle.edge.tokens)
    circle.deliver_to_device(0)
    assert list(circle.edge.tokens) == before
    assert circle.edge.tally.num_ignored == 1


def test_a_malformed_correction_is_ignored() -> None:
    circle = Circle()
    while circle.edge.wants_draft:
        circle.draft()
    for wrong in (
        Correction(0, num_accepted=99, token=1, worker="w0"),
        Correction(0, num_accepted=0, token=None, worker="w0"),
        Correction(0, num_accepted=0, token=5000, worker="w0"),
        Correction(0, num_accepted=0, token=1, worker="w0", index=3),
    ):
        circle.advance(wrong)
    assert circle.edge.tally.num_ignored == 4
    circle.settle()
    assert circle.text == undisturbed()


def test_a_worker_that_lost_the_session_asks_for_the_context_and_the_text_is_the_same() -> None:
    circle = Circle(num_workers=1, window=3)
    for _ in range(200):
        circle.draft()
        circle.exchange()
        circle.workers["w0"] = circle.new_worker("w0")  # evicted after every answer
    assert circle.edge.finished
    assert circle.edge.tally.num_resent > 0
    assert circle.text == undisturbed(window=3)


def test_a_busy_worker_costs_time_only() -> None:
    circle = Circle()
    while circle.edge.wants_draft:
        circle.draft()
    circle.to_workers.clear()
    circle.advance(Refusal(0, Reason.BUSY, "w0", retry_after=0.75))
    assert circle.edge.deadline == circle.now + 0.75
    circle.settle()
    assert circle.text == undisturbed()


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (Reason.TOKENIZER_MISMATCH, "one family"),
        (Reason.TOO_LONG, "shorten"),
        (Reason.BAD_REQUEST, "releases"),
    ],
)
def test_a_refusal_that_asking_again_cannot_mend_ends_with_one_sentence(reason: Reason, advice: str) -> None:
    circle = Circle()
    while circle.edge.wants_draft:
        circle.draft()
    for name in ("w0", "w1"):
        circle.advance(Refusal(0, reason, name, "no good"))
        circle.pass_time(1.0)
    assert circle.edge.finish_reason == "error"
    assert advice in present(circle.edge.failure)
    assert "no good" in present(circle.edge.failure)


def lost_cloud(policy: OnCloudLoss) -> Circle:
    circle = Circle(on_cloud_loss=policy, cloud_timeout=20.0)
    for _ in range(400):
        circle.draft()
        circle.to_workers.clear()
        circle.pass_time(0.5)
    return circle


def test_without_a_cloud_fail_stops_with_a_reason() -> None:
    assert "20 s" in present(lost_cloud(OnCloudLoss.FAIL).edge.failure)


def always_busy(policy: OnCloudLoss, *, detail: str, seconds: float = 30.0) -> Circle:
    circle = Circle(on_cloud_loss=policy, cloud_timeout=20.0)
    end = circle.now + seconds
    while circle.now < end and not circle.edge.finished:
        circle.draft()
        for outgoing in circle.to_workers:
            refusal = Refusal(expect(Draft, outgoing.message).n, Reason.BUSY, "w0", detail, retry_after=1.0)
            circle.advance(refusal)
        circle.to_workers.clear()
        circle.pass_time(0.5)
    return circle


def test_a_pool_that_is_only_busy_is_not_called_silent() -> None:
    failure = always_busy(OnCloudLoss.FAIL, detail="9 sessions are waiting already").edge.failure
    assert failure == (
        "every worker that answered for 20 s was busy: 9 sessions are waiting already (w0); "
        "try again later, or add a worker to the pool"
    )


def test_what_a_busy_worker_says_is_fit_to_print() -> None:
    failure = present(always_busy(OnCloudLoss.FAIL, detail="\x1b[31mfull\n").edge.failure)
    assert failure.isprintable()
    assert "full" in failure
    failure = present(always_busy(OnCloudLoss.FAIL, detail="").edge.failure)
    assert "no reason given (w0)" in failure


def test_local_names_a_busy_pool_as_its_reason() -> None:
    assert "full (w0)" in present(always_busy(OnCloudLoss.LOCAL, detail="full").edge.cloud.reason)


def test_an_answer_ends_the_silence_and_what_was_busy_before_is_forgotten() -> None:
    circle = always_busy(OnCloudLoss.WAIT, detail="full")
    (silence,) = circle.silences
    assert "busy" in silence
    assert "busy" in circle.edge.cloud.complaint
    circle.settle()
    assert circle.text == undisturbed()
    assert circle.edge.silence(float("inf")) is None
    assert circle.edge.cloud.complaint == "no worker answered for 20 s"


def test_without_a_cloud_wait_keeps_asking_and_loses_nothing() -> None:
    circle = lost_cloud(OnCloudLoss.WAIT)
    assert not circle.edge.finished
    circle.settle()
    assert circle.text == undisturbed()


def test_without_a_cloud_local_goes_on_and_marks_the_tokens() -> None:
    circle = lost_cloud(OnCloudLoss.LOCAL)
    assert circle.edge.finished
    assert circle.edge.failure is None
    assert circle.edge.tally.num_by_fate[Fate.UNVERIFIED] == 24


def test_verification_resumes_by_itself_after_local_tokens() -> None:
    circle = Circle(on_cloud_loss=OnCloudLoss.LOCAL, max_tokens=120, cloud_timeout=2.0)
    for _ in range(12):
        circle.draft()
        circle.to_workers.clear()
        circle.pass_time(0.5)
    circle.settle()
    fates = circle.edge.tally.num_by_fate
    assert fates[Fate.UNVERIFIED] > 0
    assert fates[Fate.VERIFIED] + fates[Fate.CORRECTED] > 0


def test_without_a_link_local_goes_on_at_once_and_asks_again_when_it_is_back() -> None:
    circle = Circle(on_cloud_loss=OnCloudLoss.LOCAL, max_tokens=40)
    circle.advance(LinkEvent.DOWN)
    for _ in range(10):
        circle.draft()
    assert len(circle.final) == 10
    assert circle.edge.cloud.reason == "the broker cannot be reached"
    circle.advance(LinkEvent.UP)
    circle.settle()
    fates = [item.fate for item in circle.final]
    assert set(fates[:10]) == {Fate.UNVERIFIED}
    assert not {Fate.UNVERIFIED, Fate.LOCAL} & set(fates[10:])


def test_an_empty_pool_is_no_reason_to_wait_when_local_is_allowed() -> None:
    circle = Circle(on_cloud_loss=OnCloudLoss.LOCAL)
    while circle.edge.wants_draft and not circle.to_workers:
        circle.draft()
    circle.advance(LinkEvent.NO_WORKER)
    assert {item.fate for item in circle.final} == {Fate.UNVERIFIED}


def test_a_new_link_asks_again_at_once() -> None:
    circle = Circle()
    first_draft(circle)
    circle.to_workers.clear()
    circle.advance(LinkEvent.UP)
    circle.pass_time(0.0)
    assert len(circle.to_workers) == 1
    circle.settle()
    assert circle.text == undisturbed()


@pytest.mark.parametrize("event", [LinkEvent.BUSY, LinkEvent.NO_WORKER])
def test_what_the_broker_could_not_hand_on_is_sent_again_after_the_shortest_timeout(event: LinkEvent) -> None:
    circle = Circle(window=2, on_cloud_loss=OnCloudLoss.WAIT)
    while circle.edge.wants_draft:
        circle.draft()
    lost = circle.to_workers.pop()
    assert present(circle.edge.deadline) > circle.now + 4.0
    circle.advance(event)
    assert circle.edge.deadline == pytest.approx(circle.now + 0.5)
    circle.pass_time(0.4)
    circle.advance(event)  # which does not put it off
    assert circle.edge.deadline == pytest.approx(circle.now + 0.1)
    assert not circle.to_workers
    circle.pass_time(0.11)
    assert circle.to_workers == [lost]
    circle.settle()
    assert circle.text == undisturbed(window=2)


@pytest.mark.parametrize("event", [LinkEvent.BUSY, LinkEvent.NO_WORKER])
def test_what_the_broker_reports_of_drafts_that_are_answered_already_is_nothing(event: LinkEvent) -> None:
    circle = Circle()
    circle.advance(event)
    assert circle.edge.deadline is None
    circle.settle()
    assert circle.text == undisturbed()


@pytest.mark.parametrize("event", [LinkEvent.FORBIDDEN, LinkEvent.INVALID])
def test_a_broker_that_will_never_take_a_draft_ends_the_text_with_its_reason(event: LinkEvent) -> None:
    circle = Circle()
    circle.advance(event)
    assert (circle.edge.failure, circle.edge.finish_reason) == (event.value, "error")


def test_another_worker_gets_the_oldest_draft_first_and_the_others_as_soon_as_it_answers() -> None:
    circle = Circle(window=3, temperature=0.0, noise=0.0)  # every draft token is accepted
    circle.draft()
    while circle.edge.worker is None:
        circle.draft()
        circle.exchange()
    while circle.edge.wants_draft:
        circle.draft()
    lost = [expect(Draft, outgoing.message).n for outgoing in circle.to_workers]
    assert len(lost) == 3
    circle.to_workers.clear()
    circle.pass_time(present(circle.edge.deadline) - circle.now)
    (asked,) = circle.to_workers
    assert (asked.worker, expect(Draft, asked.message).n) == (None, lost[0])
    circle.deliver_to_worker(0, opener="w1")
    circle.work("w1")
    circle.deliver_to_device(0)
    assert [(outgoing.worker, expect(Draft, outgoing.message).n) for outgoing in circle.to_workers] == [
        ("w1", n) for n in lost[1:]
    ]


def test_a_worker_that_leaves_hands_its_sessions_over_without_a_deadline() -> None:
    circle = Circle(window=3)
    first_draft(circle)
    circle.deliver_to_worker(0)
    circle.work("w0")
    circle.deliver_to_device(0)
    while circle.edge.wants_draft:
        circle.draft()
    circle.to_workers.clear()
    circle.advance(Refusal(None, Reason.BUSY, "w0", "stopping"))
    circle.pass_time(0.0)
    (outgoing,) = circle.to_workers
    assert (outgoing.worker, expect(Draft, outgoing.message).base) == (None, 0)
    circle.settle()
    assert circle.text == undisturbed(window=3)


def test_only_the_sessions_own_worker_can_leave() -> None:
    circle = Circle()
    first_draft(circle)
    circle.deliver_to_worker(0)
    circle.work("w0")
    circle.deliver_to_device(0)
    circle.advance(Refusal(None, Reason.BUSY, "w1", "stopping"))
    assert circle.edge.worker == "w0"


def first_draft(circle: Circle) -> Draft:
    while circle.edge.wants_draft:
        circle.draft()
    return expect(Draft, circle.to_workers[0].message)


def refusal_of(circle: Circle, draft: Draft) -> Refusal:
    at_once = circle.workers["w0"].receive(draft)
    _, answers = circle.workers["w0"].next_job()
    return expect(Refusal, [*at_once, *answers][0])


def test_a_worker_refuses_a_foreign_vocabulary() -> None:
    circle = Circle()
    draft = first_draft(circle)
    foreign = Opening(b"otherone", 12, Sampling(), 1)
    refusal = refusal_of(circle, Draft(0, 0, 0, draft.context, draft.block, opening=foreign))
    assert refusal.reason is Reason.TOKENIZER_MISMATCH
    assert b"otherone".hex() in refusal.detail


def test_a_worker_refuses_what_is_too_long_for_it() -> None:
    circle = Circle()
    draft = first_draft(circle)
    refusal = refusal_of(circle, Draft(0, 0, 0, (1,) * 600, draft.block, opening=draft.opening))
    assert refusal.reason is Reason.TOO_LONG
    assert "512" in refusal.detail


def test_a_drifted_prefix_is_noticed() -> None:
    circle = Circle()
    draft = first_draft(circle)
    circle.deliver_to_worker(0)
    circle.work("w0")
    session = circle.workers["w0"]
    drifted = Draft(1, session.epoch, len(PROMPT), (), draft.block, check=12345)
    refusal = refusal_of(circle, drifted)
    assert refusal.reason is Reason.NEED_CONTEXT


def test_a_worker_refuses_a_draft_with_nothing_before_it() -> None:
    circle = Circle()
    draft = first_draft(circle)
    refusal = refusal_of(circle, Draft(0, 0, 0, (), draft.block, opening=draft.opening))
    assert refusal.reason is Reason.BAD_REQUEST


def test_waiting_drafts_of_a_session_are_verified_in_one_pass() -> None:
    circle = Circle(window=6, block_length=1, threshold=0.0, noise=0.0, temperature=0.0)
    circle.draft()
    circle.deliver_to_worker(0)
    circle.work("w0")
    circle.deliver_to_device(0)
    while circle.edge.wants_draft:
        circle.draft()
    while circle.to_workers:
        circle.deliver_to_worker(0)
    job, _ = circle.workers["w0"].next_job()
    assert len(present(job).drafts) == 6


def test_a_failed_pass_is_answered_and_changes_nothing() -> None:
    circle = Circle()
    first_draft(circle)
    circle.deliver_to_worker(0)
    session = circle.workers["w0"]
    session.next_job()
    (answer,) = session.abandon("out of memory", retry_after=0.5)
    refusal = expect(Refusal, answer)
    assert (refusal.reason, refusal.retry_after) == (Reason.BUSY, 0.5)
    circle.to_device.append(answer)
    circle.settle()
    assert circle.text == undisturbed()
