"""A prompt that is sent ahead: the worker reads it while the device does, and the text is the same."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.protocol.codec import decode_to_worker, encode
from common.protocol.messages import Close, Correction, Draft, Reason, Refusal
from edge_agent.policy.schemes import SCHEMES
from tests.support.circle import PROMPT, Circle
from tests.support.fakes import VOCAB_SIZE, opening
from tests.support.narrowing import expect

ASKING = [name for name, scheme in SCHEMES.items() if scheme.asks_first]


def settled(circle: Circle) -> Circle:
    circle.settle()
    return circle


def test_these_schemes_surely_ask_about_the_first_token() -> None:
    assert ASKING == ["hlm", "lossless", "coupled", "auto"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_prompt_goes_ahead_only_where_the_first_token_surely_goes_up(scheme: str) -> None:
    circle = Circle(scheme=scheme, reads_ahead=True)
    sent = [one.message for one in circle.to_workers if isinstance(one.message, Draft)]
    goes_ahead = scheme in ASKING and scheme != "auto"  # which asks for tokens at once
    assert [one.only_reads for one in sent] == ([True] if goes_ahead else [False] * len(sent))


@pytest.mark.parametrize(("scheme", "temperature"), list(product(ASKING, [0.0, 1.0])))
@given(seed=st.integers(0, 300), window=st.integers(1, 4), ends=st.frozensets(st.integers(0, VOCAB_SIZE - 1)))
@settings(max_examples=6)
def test_the_text_is_that_of_a_prompt_that_goes_up_with_the_first_draft(
    scheme: str, temperature: float, seed: int, window: int, ends: frozenset[int]
) -> None:
    both = [
        settled(
            Circle(
                scheme=scheme, seed=seed, temperature=temperature, window=window, worker_ends=ends,
                reads_ahead=ahead,
            )
        )
        for ahead in (True, False)
    ]  # fmt: skip
    assert both[0].final == both[1].final
    assert both[0].edge.finish_reason == both[1].edge.finish_reason


def test_a_limit_that_the_answer_states_ends_the_text_where_a_refusal_would() -> None:
    for window, limit in product((1, 4), (len(PROMPT) + 1, len(PROMPT) + 6)):
        told = Circle(reads_ahead=True, window=window, worker_limit=limit)
        if limit > len(PROMPT) + 1:
            told.draft()  # what is drafted before the answer comes may go beyond the limit
        told.exchange()
        assert told.edge.most_tokens == limit - len(PROMPT)
        assert settled(told).final == settled(Circle(window=window, worker_limit=limit)).final
        assert (told.edge.finish_reason, len(told.edge.tokens)) == ("length", limit)


def test_the_worker_answers_before_it_reads_and_gets_only_what_follows() -> None:
    circle = Circle(reads_ahead=True)
    circle.deliver_to_worker(0)
    answer = expect(Correction, circle.to_device[0])
    assert (answer.num_accepted, answer.token) == (0, None)
    circle.deliver_to_device(0)
    while not circle.to_workers:
        circle.draft()
    draft = expect(Draft, circle.to_workers[0].message)
    assert circle.to_workers[0].worker == "w0"
    assert (draft.base, draft.context, draft.opening) == (len(PROMPT), (), None)
    circle.deliver_to_worker(0)
    job, _ = circle.workers["w0"].next_job()
    assert job is not None
    assert [one.n for one in job.drafts] == [0, 1]  # one pass reads the prompt and verifies the block


def test_a_prompt_that_is_being_read_keeps_a_block_waiting() -> None:
    circle = Circle(reads_ahead=True)
    circle.exchange()
    assert circle.workers["w0"].tokens == PROMPT
    assert circle.to_device == []  # it has been answered once
    circle.settle()
    assert circle.edge.tally.num_resent == 0


def test_a_prompt_that_was_lost_delays_nothing() -> None:
    circle = Circle(reads_ahead=True)
    circle.to_workers.clear()
    while not circle.to_workers:
        circle.draft()
    draft = expect(Draft, circle.to_workers[0].message)
    assert circle.to_workers[0].worker is None
    assert draft.opening is not None
    circle.settle()
    assert circle.final == settled(Circle()).final
    assert circle.edge.tally.num_resent == 0


def test_an_older_worker_refuses_it_and_the_draft_goes_to_any_worker() -> None:
    circle = Circle(reads_ahead=True)
    circle.to_workers.clear()
    refused = Refusal(0, Reason.BAD_REQUEST, "w1", "there is nothing to verify, or nothing before it")
    for _ in range(9):
        circle.advance(refused)
    circle.settle()
    assert circle.edge.failure is None
    assert circle.final == settled(Circle()).final


def test_an_answer_that_comes_after_the_first_draft_has_no_effect() -> None:
    circle = Circle(reads_ahead=True)
    circle.deliver_to_worker(0, opener="w1")
    while not circle.to_workers:
        circle.draft()
    assert circle.to_workers[0].worker is None
    circle.deliver_to_device(0)
    assert circle.edge.worker is None
    circle.deliver_to_worker(0)
    circle.work("w0")
    circle.deliver_to_device(0)
    assert circle.edge.worker == "w0"
    closed = [one.worker for one in circle.to_workers if isinstance(one.message, Close)]
    assert closed == ["w1"]  # which may forget the prompt that it has read in vain
    circle.settle()
    assert circle.final == settled(Circle()).final


def test_a_worker_that_lost_the_prompt_gets_it_again() -> None:
    circle = Circle(reads_ahead=True)
    circle.exchange()
    circle.workers["w0"] = circle.new_worker("w0")
    circle.settle()
    assert circle.final == settled(Circle()).final


@pytest.mark.parametrize(
    "answer", [Correction(0, 1, 3, "w0"), Correction(0, 0, 3, "w0"), Correction(0, 0, None, "w0", 1)]
)
def test_an_answer_that_does_not_fit_is_ignored(answer: Correction) -> None:
    circle = Circle(reads_ahead=True)
    circle.to_workers.clear()
    circle.advance(answer)
    assert circle.edge.worker is None
    circle.settle()
    assert circle.final == settled(Circle()).final


def test_a_prompt_beyond_the_workers_limits_is_refused_at_once() -> None:
    worker = Circle(worker_limit=3).workers["w0"]
    message = Draft(0, 0, 0, tuple(PROMPT), (), opening=opening())
    (refusal,) = worker.receive(expect(Draft, decode_to_worker(encode(message))))
    assert expect(Refusal, refusal).reason is Reason.TOO_LONG
    assert not worker.ready


def test_nothing_to_read_is_refused() -> None:
    (refusal,) = Circle().workers["w0"].receive(Draft(0, 0, 0, (), (), opening=opening()))
    assert expect(Refusal, refusal).reason is Reason.BAD_REQUEST
