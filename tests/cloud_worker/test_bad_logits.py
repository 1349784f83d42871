"""Logits that are no distribution: the draft that needs them is refused, and nothing else changes."""

import asyncio
import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from cloud_worker.engines.local import LocalEngine
from cloud_worker.monitoring.tally import ErrorKind, WorkerTally
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.scheduling.batch import Batch
from cloud_worker.scheduling.fair_queue import SessionKey
from cloud_worker.scheduling.limits import Limits
from cloud_worker.scheduling.scheduler import Scheduler
from cloud_worker.scheduling.task import Answer
from cloud_worker.session.job import Job, Rows
from cloud_worker.session.judging import LogitsError, judge
from cloud_worker.session.session import CloudSession, Target
from cloud_worker.target_model import TargetModel
from cloud_worker.target_model.engine import plain_logits
from cloud_worker.target_model.loading import Loaded
from cloud_worker.verifier import Verifier
from common.protocol.checksum import prefix_check
from common.protocol.messages import Correction, Draft, DraftToken, Opening, Reason, Refusal
from common.sampling.distribution import Dense, Lattice, Sampling, TopK
from edge_agent.session.refusals import explain
from tests.support.fakes import TOKENIZER, VOCAB_SIZE, FakeModel, UncachedTarget
from tests.support.narrowing import expect, present

NAN, INF = float("nan"), float("inf")
POISON = 11  # the token after which the model below gives no finite logits
MODEL = FakeModel(0)
TARGET = Target("w0", TOKENIZER, VOCAB_SIZE, max_tokens=64)


def bad_row(kind: str) -> Rows:
    row = MODEL.logits([1, 2])
    if kind == "no possible token":
        return np.full_like(row, -INF)
    row[5] = {"one NaN": NAN, "one +inf": INF, "NaN beside +inf": NAN}[kind]
    if kind == "NaN beside +inf":
        row[7] = INF
    return np.full_like(row, NAN) if kind == "all NaN" else row


BAD = ["one NaN", "one +inf", "NaN beside +inf", "no possible token"]
SAMPLINGS = {
    "plain": Sampling(1.0),
    "greedy": Sampling(0.0),
    "top-k": Sampling(1.0, top_k=3),
    "top-p": Sampling(0.7, top_p=0.9),
    "both": Sampling(1.0, top_k=VOCAB_SIZE - 1, top_p=1.0 - 2**-53),
}
DRAFT_TOKENS = {
    "ids only": DraftToken(4),
    "lattice": DraftToken(4, Lattice(np.array([4, 2]), np.array([200, 56]))),
    "dense": DraftToken(4, Dense(np.ones(VOCAB_SIZE, np.float16))),
    "top-k": DraftToken(4, TopK(np.array([4, 2]), np.array([5, 12], np.uint8), 0.75)),
}


def job_of(draft: Draft) -> Job:
    session = CloudSession(TARGET)
    assert session.receive(draft) == []
    return present(session.next_job()[0])


def first_draft(
    context: Sequence[int], block: Sequence[DraftToken], sampling: Sampling, **more: int
) -> Draft:
    return Draft(
        0, 0, 0, tuple(context), tuple(block), opening=Opening(TOKENIZER, VOCAB_SIZE, sampling, 1), **more
    )


# -- no row that is needed is judged -------------------------------------------------------------------


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("token", DRAFT_TOKENS.values(), ids=DRAFT_TOKENS)
def test_a_token_is_never_judged_by_a_row_that_is_not_finite(
    kind: str, sampling: Sampling, token: DraftToken
) -> None:
    job = job_of(first_draft((1, 2), [token], sampling))
    with pytest.raises(LogitsError, match="position 2"):
        judge(job, bad_row(kind)[None])


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_no_bonus_token_comes_from_a_row_that_is_not_finite(kind: str, sampling: Sampling) -> None:
    job = job_of(first_draft((1, 2), [], sampling, bonus=1))
    with pytest.raises(LogitsError):
        judge(job, bad_row(kind)[None])


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_no_context_probability_comes_from_a_row_that_is_not_finite(kind: str, sampling: Sampling) -> None:
    job = job_of(first_draft((1, 2, 3), [DraftToken(4)], sampling, num_context_probs=2))
    good = MODEL.logits([1, 2])
    for bad_at, position in enumerate((1, 2, 3)):
        rows = np.stack([bad_row(kind) if index == bad_at else good for index in range(3)])
        with pytest.raises(LogitsError, match=f"position {position}"):
            judge(job, rows)


def test_a_row_after_the_first_rejection_may_be_anything() -> None:
    job = job_of(first_draft((1, 2), [DraftToken(4), DraftToken(5)], Sampling(0.0)))
    first = MODEL.logits([1, 2])
    assert int(np.argmax(first)) != 4
    (one,) = judge(job, np.stack([first, bad_row("one NaN")]))
    assert (one.verdict.num_accepted, one.verdict.token) == (0, int(np.argmax(first)))


def test_padding_beyond_the_vocabulary_may_be_anything() -> None:
    job = job_of(first_draft((1, 2), [DraftToken(4)], Sampling(1.0, top_p=0.9)))
    row = MODEL.logits([1, 2])
    padded = np.concatenate([row, np.array([NAN, INF, -INF], np.float32)])
    assert judge(job, padded[None]) == judge(job, row[None])


def test_single_impossible_tokens_are_judged_as_ever() -> None:
    row = MODEL.logits([1, 2])
    row[[0, 3, 4]] = -INF
    (one,) = judge(job_of(first_draft((1, 2), [DRAFT_TOKENS["lattice"]], Sampling())), row[None])
    assert one.verdict.num_accepted == 0
    assert one.verdict.token not in (0, 3, 4, None)


# -- that draft alone is refused -----------------------------------------------------------------------


class PoisonedModel(UncachedTarget):
    """Logits that are NaN wherever POISON occurs in the sequence; other rows are those of a fake model."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self._error = error  # raised by judging instead: rows of a kind that only fails when it is read

    def logits(self, passes: Sequence[Pass]) -> list[Rows]:
        return [self._rows(one) for one in passes]

    def _rows(self, one: Pass) -> Rows:
        rows = MODEL.rows(one.tokens, one.num_rows).astype(np.float32)
        for index in range(one.num_rows):
            if POISON in one.tokens[: one.first_row + index + 1]:
                rows[index] = NAN
        if self._error is not None and POISON in one.tokens:
            return Broken.of(rows, self._error)
        return rows


class Broken(np.ndarray):
    """Rows that raise when one is read."""

    error: Exception

    @classmethod
    def of(cls, rows: Rows, error: Exception) -> "Broken":
        broken = rows.view(cls)
        broken.error = error
        return broken

    def __getitem__(self, key: object) -> "Broken":
        raise self.error


class Bench:
    """A verifier with a poisoned model."""

    def __init__(self, error: Exception | None = None) -> None:
        self.model, self.tally = PoisonedModel(error), WorkerTally()
        self.scheduler = Scheduler(TARGET, Limits(retry_after=0.5))

    def receive(self, device: str, draft: Draft) -> None:
        assert self.scheduler.receive(SessionKey(device, "s"), draft) == []

    def run(self) -> list[Answer]:
        """Everything that waits is verified; returns the answers."""
        sent: list[Answer] = []

        async def send(answers: Sequence[Answer]) -> None:
            sent.extend(answers)

        async def scenario() -> None:
            async with LocalEngine(self.model) as engine:
                verifier = Verifier(engine, self.scheduler, self.tally)
                running = asyncio.create_task(verifier.run(send))
                verifier.wake()
                await verifier.idle()
                assert not running.done()
                running.cancel()

        asyncio.run(scenario())
        return sent


def draft_after(token: int, n: int = 0) -> Draft:
    sampling = Sampling(1.0, top_p=0.9)
    opening = Opening(TOKENIZER, VOCAB_SIZE, sampling, 1)
    return Draft(n, 0, 0, (1, token), (DRAFT_TOKENS["lattice"],), opening=opening)


def answers_to(tokens: Sequence[int], error: Exception | None = None) -> tuple[Bench, dict[str, Answer]]:
    bench = Bench(error)
    for number, token in enumerate(tokens):
        bench.receive(f"device{number}", draft_after(token))
    return bench, {answer.key.device: answer for answer in bench.run()}


def without_time(answer: Answer) -> Correction:
    correction = expect(Correction, answer.message)
    return Correction(correction.n, correction.num_accepted, correction.token, correction.worker)


def test_a_bad_row_refuses_its_draft_and_leaves_the_rest_of_the_batch_as_it_is() -> None:
    bench, answers = answers_to([2, POISON, 3])
    _, without = answers_to([2, 4, 3])
    refusal = expect(Refusal, answers["device1"].message)
    assert (refusal.n, refusal.reason, refusal.retry_after) == (0, Reason.BUSY, 0.5)
    assert "no finite logits for position 2" in refusal.detail
    for name in ("device0", "device2"):
        assert without_time(answers[name]) == without_time(without[name])
    assert bench.tally.num_errors[ErrorKind.LOGITS] == 1
    assert bench.tally.num_errors[ErrorKind.PASS] == bench.tally.num_errors[ErrorKind.JUDGING] == 0
    assert bench.model.forgotten == [SessionKey("device1", "s")]


def test_the_second_time_the_device_is_told_not_to_ask_again() -> None:
    bench = Bench()
    reasons: list[Reason] = []
    for n in range(2):
        bench.receive("lamp", draft_after(POISON, n))
        reasons += [expect(Refusal, answer.message).reason for answer in bench.run()]
    assert reasons == [Reason.BUSY, Reason.BAD_REQUEST]
    bench.receive("lamp", draft_after(3, 2))
    assert isinstance(bench.run()[0].message, Correction)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (IndexError("out of bounds"), Reason.BAD_REQUEST),
        (ZeroDivisionError(), Reason.BAD_REQUEST),
        (FloatingPointError("overflow"), Reason.BAD_REQUEST),
        (MemoryError(), Reason.BUSY),
    ],
)
def test_whatever_judging_raises_is_the_failure_of_that_task_alone(error: Exception, reason: Reason) -> None:
    bench, answers = answers_to([2, POISON, 3], error)
    refusal = expect(Refusal, answers["device1"].message)
    assert (refusal.reason, refusal.detail) == (reason, "the worker fails to judge this draft")
    assert all(isinstance(answers[name].message, Correction) for name in ("device0", "device2"))
    assert bench.tally.num_errors[ErrorKind.JUDGING] == 1


@pytest.mark.parametrize("error", [IndexError("index out of range in self"), KeyError(1), AssertionError()])
def test_whatever_a_forward_pass_raises_is_a_failed_pass(error: Exception) -> None:
    class Failing(PoisonedModel):
        def logits(self, passes: Sequence[Pass]) -> list[Rows]:
            if any(POISON in one.tokens for one in passes):
                raise error
            return super().logits(passes)

    bench = Bench()
    bench.model = Failing()
    for number, token in enumerate([2, POISON, 3]):
        bench.receive(f"device{number}", draft_after(token))
    answers = {answer.key.device: answer.message for answer in bench.run()}
    assert expect(Refusal, answers["device1"]).reason is Reason.BUSY
    assert isinstance(answers["device0"], Correction)
    assert isinstance(answers["device2"], Correction)
    assert bench.tally.num_errors[ErrorKind.PASS] >= 1


def test_drafts_before_the_bad_row_get_their_corrections() -> None:
    bench = Bench()
    opening = Opening(TOKENIZER, VOCAB_SIZE, Sampling(0.0), 1)
    best = int(np.argmax(MODEL.logits([1, 2])))
    bench.receive("lamp", Draft(0, 0, 0, (1, 2), (DraftToken(best),), opening=opening))
    held = [1, 2, best]
    bench.receive("lamp", Draft(1, 0, 3, (POISON,), (DraftToken(4),), check=prefix_check(held)))
    held += [POISON, 4]
    bench.receive("lamp", Draft(2, 0, 5, (), (DraftToken(5),), check=prefix_check(held)))
    first, *others = (answer.message for answer in bench.run())
    assert (expect(Correction, first).n, expect(Correction, first).num_accepted) == (0, 1)
    assert [(expect(Refusal, other).n, expect(Refusal, other).reason) for other in others] == [
        (1, Reason.BUSY),
        (2, Reason.BUSY),
    ]


def test_a_stream_that_runs_into_a_bad_row_is_refused_and_not_left_silent() -> None:
    class Ends(PoisonedModel):
        def logits(self, passes: Sequence[Pass]) -> list[Rows]:
            return [np.full_like(rows, NAN) if len(one.tokens) >= 5 else rows
                    for one, rows in zip(passes, super().logits(passes), strict=True)]  # fmt: skip

    bench = Bench()
    bench.model = Ends()
    opening = Opening(TOKENIZER, VOCAB_SIZE, Sampling(0.0), 1)
    bench.receive("lamp", Draft(7, 0, 0, (1, 2), (), bonus=30, opening=opening))
    *corrections, last = (answer.message for answer in bench.run())
    assert [expect(Correction, one).index for one in corrections] == [0, 1, 2]
    assert (expect(Refusal, last).n, expect(Refusal, last).reason) == (7, Reason.BUSY)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_any_mix_of_good_and_bad_rows_gives_each_task_the_outcome_it_has_alone(
    bad: list[bool], length: int
) -> None:
    drafts = [
        first_draft((1, POISON if is_bad else 2), [DraftToken(4)] * length, Sampling()) for is_bad in bad
    ]
    held = Scheduler(TARGET, Limits())
    for number, draft in enumerate(drafts):
        held.receive(SessionKey(f"d{number}", "s"), draft)
    tasks, _ = held.next_batch()
    model = PoisonedModel()
    batch = Batch.of(tasks, model.num_missing, 256)
    outcomes = batch.judged(model.logits(batch.passes))
    for task, outcome, is_bad in zip(tasks, outcomes, bad, strict=True):
        if is_bad:
            assert not isinstance(outcome, list)
        else:
            assert outcome == judge(task.job, MODEL.rows(task.job.tokens, task.job.num_rows))


# -- in the model's cache ------------------------------------------------------------------------------


def test_keys_and_values_that_are_not_finite_reach_no_other_session() -> None:
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=128,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    plain = copy.deepcopy(model)
    # a few pages, so that those of the poisoned sessions are soon used by the others
    target = TargetModel(Loaded(model, {}, frozenset(), 128), cache_bytes=16 * 32 * 128, chunk_tokens=32)
    with torch.no_grad():
        model.get_parameter("model.embed_tokens.weight")[POISON] = NAN
    rng = np.random.default_rng(3)
    for step in range(60):
        batch: list[Pass] = []
        for session in range(4):
            length = int(rng.integers(1, 40))
            tokens = [int(token) for token in 12 + rng.integers(0, 30, size=length)]
            if session == 0:
                tokens[int(rng.integers(length))] = POISON
            batch.append(Pass(session, tokens, int(rng.integers(1, min(length, 4) + 1))))
        rows = target.logits(batch)
        for one, found in zip(batch[1:], rows[1:], strict=True):
            np.testing.assert_allclose(
                found, plain_logits(plain, one.tokens)[one.first_row :], atol=1e-4, err_msg=f"step {step}"
            )
        assert np.isnan(rows[0][-1]).any()
        target.forget(int(rng.integers(4)))


def test_the_device_ends_with_a_one_line_error_that_names_the_cause() -> None:
    refusals = [expect(Refusal, answer.message) for answer in _refused_twice()]
    shown = explain(refusals[-1])
    assert shown == (
        "worker w0 refused the draft: the target model gives no finite logits for position 2 "
        "(the largest is nan); try another prompt, or dtype float32 at the worker"
    )


def _refused_twice() -> list[Answer]:
    bench = Bench()
    answers: list[Answer] = []
    for n in range(2):
        bench.receive("lamp", draft_after(POISON, n))
        answers += bench.run()
    return answers
