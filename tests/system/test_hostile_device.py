"""Nothing that a device or a worker sends can stop, bloat or mislead the other side.

First the pure session under any sequence of valid messages; then a real worker under thousands of hostile
ones, beside a well-behaved device whose text must not change; then an agent whose worker lies.
"""

import asyncio
import contextlib
import pickle
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import cbor2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from benchmarks.fuzz.flood import Flood
from benchmarks.fuzz.messages import GARBAGE
from cloud_worker.session.backlog import MAX_DRAFTS
from cloud_worker.session.job import MAX_CHAIN_ROWS, Job
from cloud_worker.session.judging import judge
from cloud_worker.session.session import CloudSession, Target
from common.link import Link, LinkSettings, Received
from common.protocol.checksum import prefix_check
from common.protocol.codec import decode_to_worker, encode
from common.protocol.fingerprint import fingerprint
from common.protocol.messages import (
    MAX_CONTEXT_PROBS,
    Correction,
    Draft,
    DraftToken,
    Opening,
    Reason,
    Refusal,
    ToDevice,
)
from common.protocol.topics import Topics
from common.sampling.distribution import Sampling, TopK
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.fakes import TOKENIZER, VOCAB_SIZE, FakeModel
from tests.support.narrowing import expect, present
from tests.support.small_models import FolderOf, SmallModels
from tests.support.wire_messages import draft_tokens

# -- the pure session ----------------------------------------------------------------------------------

MAX_TOKENS = 40
MODEL = FakeModel(0)

samplings = st.builds(
    Sampling,
    st.sampled_from([0.0, 5e-324, 1e-300, 1e-30, 0.7, 1.0, 100.0]),
    st.sampled_from([0, 1, 5, 2**24]),
    st.sampled_from([5e-324, 1e-9, 0.5, 1.0 - 2**-53, 1.0]),
)
openings = st.builds(
    Opening, st.just(TOKENIZER), st.just(VOCAB_SIZE), samplings, st.sampled_from([0, 1, 2**63, 2**64 - 1])
)
small = st.integers(0, 6)
tokens = st.integers(0, VOCAB_SIZE - 1)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """Any draft that the codec lets through, for a vocabulary of the fake models."""
    context = tuple(draw(st.lists(tokens, max_size=8)))
    base = draw(st.one_of(st.just(0), st.integers(1, MAX_TOKENS + 2), st.just(2**32 - 1)))
    return Draft(
        n=draw(st.one_of(small, st.just(2**32 - 1))),
        epoch=draw(st.one_of(small, st.just(2**32 - 1))),
        base=base,
        context=context,
        block=tuple(draw(st.lists(draft_tokens(VOCAB_SIZE), max_size=4))),
        bonus=draw(st.sampled_from([0, 1, 2, 4096])),
        num_context_probs=draw(st.integers(0, len(context))),
        check=draw(st.integers(0, 2**32 - 1)) if base else 0,
        opening=None if base else draw(openings),
    )


def fitted(draft: Draft, session: CloudSession) -> Draft:
    """The draft as one that continues what the session holds, so that it gets past the checks."""
    base = min(draft.base, len(session.tokens))
    if base == 0:
        return draft
    return replace(draft, base=base, epoch=session.epoch, check=prefix_check(session.tokens[:base]))


steps = st.one_of(
    st.tuples(drafts(), st.booleans()),
    st.tuples(drafts(), st.booleans()),
    st.sampled_from(["begin", "finish", "finish", "fail"]),
)
ALL_ZERO = TopK(np.arange(VOCAB_SIZE), np.full(VOCAB_SIZE, 255, np.uint8), 1e-45, is_logarithmic=True)
NO_SHARES = TopK(np.arange(VOCAB_SIZE), np.zeros(VOCAB_SIZE, np.uint8), 1e-45)
NOTHING, NONE = (
    Draft(0, 0, 0, (1,), (DraftToken(3, zeros),), opening=Opening(TOKENIZER, VOCAB_SIZE, Sampling(), 1))
    for zeros in (ALL_ZERO, NO_SHARES)
)


@given(st.lists(steps, max_size=40))
@example([(NOTHING, False), "begin", "finish"])
@example([(NONE, False), "begin", "finish"])
@settings(max_examples=80, deadline=None)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_sequence_of_valid_messages_makes_a_session_raise_or_grow(
    script: list[str | tuple[Draft, bool]],
) -> None:
    session = CloudSession(Target("w0", TOKENIZER, VOCAB_SIZE, MAX_TOKENS))
    answers: list[ToDevice] = []
    job: Job | None = None
    for step in [*script, "finish", "begin", "finish"]:
        match step:
            case (draft, fits):
                draft = fitted(draft, session) if fits else draft
                assert encode(draft)
                answers += session.receive(draft)
            case "begin" if job is None:
                job, more = session.next_job()
                answers += more
            case "finish" if job is not None:
                answers += session.complete(judge(job, MODEL.rows(job.tokens, job.num_rows)), 1.0)
                job = None
            case "fail" if job is not None:
                answers += session.abandon("no", retry_after=1.0)
                job = None
            case str():
                pass  # not now
        assert len(session.tokens) <= MAX_TOKENS
        assert job is None or len(job.tokens) <= MAX_TOKENS
    for answer in answers:
        assert encode(answer)
        if isinstance(answer, Correction):
            assert answer.token is None or 0 <= answer.token < VOCAB_SIZE


def test_a_flood_during_a_pass_is_bounded_and_told_so() -> None:
    session = CloudSession(Target("w0", TOKENIZER, VOCAB_SIZE, MAX_TOKENS))
    opening = Opening(TOKENIZER, VOCAB_SIZE, Sampling(), 1)
    session.receive(Draft(0, 0, 0, (1,), (DraftToken(2),), opening=opening))
    session.next_job()
    answers: list[ToDevice] = []
    for n in range(1, 5000):
        answers += session.receive(Draft(n, 0, 5, (1,), (DraftToken(2),) * 20))
    assert len(answers) == 5000 - 1 - MAX_DRAFTS
    assert {expect(Refusal, answer).reason for answer in answers} == {Reason.BUSY}
    assert len(pickle.dumps(session)) < 100_000


def test_long_contexts_are_not_kept_waiting() -> None:
    session = CloudSession(Target("w0", TOKENIZER, VOCAB_SIZE, MAX_TOKENS))
    opening = Opening(TOKENIZER, VOCAB_SIZE, Sampling(), 1)
    session.receive(Draft(0, 0, 0, (1,), (DraftToken(2),), opening=opening))
    session.next_job()
    for n in range(1, 10):
        (answer,) = session.receive(Draft(n, 0, 0, (7,) * 100_000, (DraftToken(2),), opening=opening))
        assert expect(Refusal, answer).reason is Reason.TOO_LONG
    answers = [
        session.receive(Draft(n, 0, 0, (7,) * 35, (DraftToken(2),), opening=opening)) for n in range(10, 20)
    ]
    assert [bool(answer) for answer in answers] == [False] * 2 + [True] * 8


def test_a_worker_computes_no_more_logits_than_it_must() -> None:
    session = CloudSession(Target("w0", TOKENIZER, VOCAB_SIZE, 5000))
    opening = Opening(TOKENIZER, VOCAB_SIZE, Sampling(0.0), 1)
    session.receive(Draft(0, 0, 0, (1,) * 4000, (), 0, num_context_probs=3000, opening=opening))
    job, (refusal,) = session.next_job()
    assert job is None
    assert expect(Refusal, refusal).reason is Reason.BAD_REQUEST
    session.receive(Draft(1, 0, 0, (1,) * 4000, (), 0, num_context_probs=MAX_CONTEXT_PROBS, opening=opening))
    held = [1] * 4000
    for n in range(2, 40):
        session.receive(Draft(n, 0, len(held), (), (DraftToken(1),) * 64, check=prefix_check(held)))
        held += [1] * 64
    job = present(session.next_job()[0])
    assert job.num_rows <= MAX_CHAIN_ROWS
    # a context behind a block would be rows too, since the block's own are wanted
    session = CloudSession(Target("w0", TOKENIZER, VOCAB_SIZE, 9000))
    session.receive(Draft(0, 0, 0, (1,) * 20, (DraftToken(1),), opening=opening))
    held = [1] * 21
    session.receive(Draft(1, 0, 21, (1,) * 8000, (DraftToken(1),), check=prefix_check(held)))
    job = present(session.next_job()[0])
    assert [draft.n for draft in job.drafts] == [0]
    session.complete(judge(job, MODEL.rows(job.tokens, job.num_rows)), 1.0)


def test_what_is_remembered_for_replay_is_bounded() -> None:
    session = CloudSession(Target("w0", TOKENIZER, VOCAB_SIZE, MAX_TOKENS))
    opening = Opening(TOKENIZER, VOCAB_SIZE, Sampling(0.0), 1)
    for n in range(300):
        session.receive(Draft(n, 0, 0, (1,) * 30, (DraftToken(2),), num_context_probs=20, opening=opening))
        job = present(session.next_job()[0])
        session.complete(judge(job, MODEL.rows(job.tokens, job.num_rows)), 1.0)
    assert len(pickle.dumps(session)) < 20_000


# -- a real worker -------------------------------------------------------------------------------------

PROMPT = "turn on the kitchen light"
MAX_GROWTH_MB = 256
SEED = 7


@pytest.fixture(scope="module")
def attacked(
    tmp_path_factory: pytest.TempPathFactory, models: SmallModels
) -> Iterator[tuple[LocalBroker, LocalWorker]]:
    flags = ("--model", str(models.target("llama")), "--cache-mb", "64", "--max-rate-per-device", "0")
    with (
        LocalBroker(tmp_path_factory.mktemp("attacked")) as broker,
        LocalWorker(broker.url, *flags, name="victim") as worker,
    ):
        yield broker, worker


@pytest.fixture(scope="module")
def opening(models: SmallModels) -> Opening:
    vocabulary = Tokenizer.from_file(str(models.target("llama") / "tokenizer.json")).get_vocab()
    return Opening(fingerprint(vocabulary), max(vocabulary.values()) + 1, Sampling(), 1)


def resident_mb(worker: LocalWorker) -> float:
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def attack(port: int, opening: Opening, count: int, seed: int) -> None:
    """From a thread, at a pace that the broker and the worker can follow."""
    flood = Flood(port, opening, seed)
    await asyncio.to_thread(flood.send, count, lambda: time.sleep(0.05))


def config(broker_url: str, draft: Path, **changes: str | float) -> AgentConfig:
    usual = AgentConfig(
        broker=broker_url,
        model=str(draft),
        scheme="lossless",
        seed=SEED,
        temperature=1.0,
        max_tokens=60,
        device="good",
        cloud_timeout=60.0,
    )
    return replace(usual, **changes)


async def text_of(settings: AgentConfig) -> list[int | None]:
    """One generation of the well-behaved device."""
    async with EdgeAgent.open(settings) as agent:
        generation = agent.generate(PROMPT)
        found = [token.token async for token in generation]
        assert generation.session.failure is None
        return found


@pytest.mark.parametrize("count", [3000])
def test_thousands_of_hostile_messages_change_nothing_for_a_well_behaved_device(
    count: int, attacked: tuple[LocalBroker, LocalWorker], opening: Opening, draft_folder: FolderOf
) -> None:
    broker, worker = attacked
    good = config(broker.url, draft_folder("llama"))

    async def siege() -> tuple[list[int | None], list[list[int | None]], list[int | None]]:
        before = await text_of(good)
        attackers = [asyncio.create_task(attack(broker.port, opening, count // 2, seed)) for seed in (1, 2)]
        during = [await text_of(good)]
        while not all(attacker.done() for attacker in attackers):
            during.append(await text_of(good))
        await asyncio.gather(*attackers)
        return before, during, await text_of(good)

    size_before = resident_mb(worker)
    before, during, after = asyncio.run(siege())
    assert len(before) > 10
    assert all(text == before for text in [*during, after])
    assert resident_mb(worker) - size_before < MAX_GROWTH_MB
    assert "Traceback" not in worker.log
    assert "refused a message" in worker.log


async def answers_to(
    broker_url: str, sent: list[tuple[str, bytes]], count: int, device: str = "attacker"
) -> list[Received]:
    """What a device hears after it sent all that, `count` messages of it."""
    async with Link(LinkSettings(broker_url), subscriptions=[Topics().correction_filter(device)]) as link:
        for topic, payload in sent:
            await link.send(topic, payload, qos=1)
        return [await asyncio.wait_for(link.receive(), 30) for _ in range(count)]


@pytest.mark.parametrize("payload", GARBAGE[:6], ids=lambda payload: payload[:4].hex() or "empty")
def test_garbage_is_answered_with_its_mistake(
    payload: bytes, attacked: tuple[LocalBroker, LocalWorker]
) -> None:
    broker, _ = attacked
    device = "babbler"  # whom nobody else's answers reach late
    topic = Topics().draft("demo", "victim", device, "s")
    (answer,) = asyncio.run(answers_to(broker.url, [(topic, payload)], 1, device))
    assert cbor2.loads(answer.payload)[7] == Reason.BAD_REQUEST


def test_a_device_with_a_thousand_sessions_holds_its_share_of_them_only(
    attacked: tuple[LocalBroker, LocalWorker], opening: Opening, draft_folder: FolderOf
) -> None:
    broker, worker = attacked
    draft = Draft(0, 0, 0, (1, 2, 3), (), bonus=1, opening=opening)
    sent = [(Topics().open("demo", "attacker", f"s{i}"), encode(draft)) for i in range(1000)]
    asyncio.run(answers_to(broker.url, sent, 25))  # evicted sessions are not all answered
    size = resident_mb(worker)
    asyncio.run(answers_to(broker.url, sent, 5))  # it has used up its rate
    assert resident_mb(worker) - size < MAX_GROWTH_MB
    assert asyncio.run(text_of(config(broker.url, draft_folder("llama"))))


# -- a worker that lies --------------------------------------------------------------------------------


def lies(draft: Draft, worker: str = "liar") -> list[bytes]:
    """Answers that no honest worker gives to this draft; none of them may count."""
    n, whole = draft.n, len(draft.block)
    token = None if not draft.bonus else 1
    return [
        b"",
        b"\xff" * 100,
        bytes(300_000),
        encode(Correction(n, whole + 1, 1, worker)),
        encode(Correction(n, 0, None, worker)) if whole else b"",
        encode(Correction(n, 0, 2**24 - 1, worker)) if whole else b"",
        encode(Correction(n, whole, token, worker, index=7)),
        encode(Correction(n + 1000, 0, 1, worker)),
        cbor2.dumps({0: n, 1: whole, 3: "a/b/#"}),
        cbor2.dumps({0: n, 1: whole, 3: "x" * 1000}),
        cbor2.dumps({0: n, 1: -1, 3: worker}),
        cbor2.dumps({0: n, 3: worker, 7: 99}),
        cbor2.dumps({0: n, 3: worker, 7: 4, 10: float("nan")}),
        encode(Refusal(n + 5, Reason.TOO_LONG, worker, "no")),
    ]


@asynccontextmanager
async def false_worker(
    broker_url: str, pool: str, answer: Callable[[Draft], list[bytes]]
) -> AsyncGenerator[None]:
    """A worker of that pool whose answers are made up."""
    topics = Topics()
    subscriptions = [topics.open_filter(pool), f"hlm/v1/{pool}/draft/+/+/+"]

    async def serve(link: Link) -> None:
        async for received in link:
            message = decode_to_worker(received.payload)
            uplink = topics.parse_uplink(received.topic)
            for payload in answer(message) if isinstance(message, Draft) else []:
                await link.send(topics.correction(uplink.device, uplink.session), payload)

    async with Link(LinkSettings(broker_url), subscriptions=subscriptions) as link:
        serving = asyncio.create_task(serve(link))
        try:
            yield
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


async def generation_with(
    settings: AgentConfig, answer: Callable[[Draft], list[bytes]]
) -> tuple[list[int | None], str | None]:
    """The text and the failure of a generation whose worker answers so."""
    async with (
        false_worker(settings.broker, settings.pool, answer),
        asyncio.timeout(60),
        EdgeAgent.open(settings) as agent,
    ):
        generation = agent.generate(PROMPT)
        found = [token.token async for token in generation]
        return found, generation.session.failure


def test_lies_are_ignored_and_the_true_answer_among_them_counts(
    broker: LocalBroker, draft_folder: FolderOf
) -> None:
    def answer(draft: Draft) -> list[bytes]:
        truth = Correction(draft.n, len(draft.block), 5 if draft.bonus else None, "honest")
        return [*lies(draft), encode(truth), *lies(draft)]

    for scheme in ("lossless", "coupled", "hlm"):
        settings = config(broker.url, draft_folder("llama"), scheme=scheme, window=2)
        found, failure = asyncio.run(generation_with(settings, answer))
        assert failure is None
        assert found
        assert all(token is None or 0 <= token < 384 for token in found)


ANSWERS: list[Callable[[Draft], list[bytes]]] = [
    lies,
    lambda draft: lies(draft) * 30,
    lambda draft: [encode(Refusal(draft.n, Reason.NEED_CONTEXT, "liar", have=0))],
    lambda draft: [encode(Refusal(draft.n, Reason.NEED_CONTEXT, "liar", have=2**32 - 1))] * 3,
    lambda draft: [encode(Refusal(draft.n, Reason.BUSY, "liar", retry_after=3600.0))],
    lambda draft: [encode(Refusal(draft.n, Reason.BUSY, "liar", retry_after=0.0))],
    lambda _: [encode(Refusal(None, Reason.BUSY, "liar"))] * 3,
    lambda draft: [encode(Refusal(draft.n, Reason.BAD_REQUEST, "liar", "\x1b[31mno\n" * 20))],
]


@pytest.mark.parametrize(
    "answer",
    ANSWERS,
    ids=["lies", "flood", "no_context", "too_much_context", "busy_for_long", "busy", "leaving", "refused"],
)
def test_a_worker_that_never_says_anything_true_costs_the_cloud_timeout_only(
    answer: Callable[[Draft], list[bytes]], broker: LocalBroker, draft_folder: FolderOf
) -> None:
    settings = config(broker.url, draft_folder("llama"), scheme="hlm", cloud_timeout=1.0)
    found, failure = asyncio.run(generation_with(settings, answer))
    assert found == []
    assert failure
    assert failure.isprintable()


@pytest.mark.parametrize("reason", [Reason.BUSY, Reason.NEED_CONTEXT, Reason.BAD_REQUEST])
def test_a_worker_that_refuses_everything_beside_an_honest_one_changes_no_text(
    reason: Reason, attacked: tuple[LocalBroker, LocalWorker], draft_folder: FolderOf
) -> None:
    broker, _ = attacked
    settings = config(
        broker.url, draft_folder("llama"), max_tokens=12, cloud_timeout=20.0, device=f"d{reason}"
    )

    def lie(draft: Draft) -> list[bytes]:
        return [encode(Refusal(draft.n, reason, "liar", retry_after=3600.0))]

    async def texts() -> list[list[int | None]]:
        alone = await text_of(settings)
        async with false_worker(broker.url, settings.pool, lie), asyncio.timeout(60):
            return [alone, *[await text_of(settings) for _ in range(3)]]

    alone, *beside = asyncio.run(texts())
    assert beside == [alone] * 3


@pytest.mark.parametrize("reason", [Reason.BUSY, Reason.NEED_CONTEXT])
def test_an_agent_closes_soon_although_its_audit_is_refused(
    reason: Reason, broker: LocalBroker, draft_folder: FolderOf
) -> None:
    settings = config(
        broker.url, draft_folder("llama"), scheme="opportunistic", threshold=1.0, audit=1.0, max_tokens=4
    )
    refused: list[int] = []

    def lie(draft: Draft) -> list[bytes]:
        refused.append(draft.n)
        return [encode(Refusal(draft.n, reason, "liar", retry_after=3600.0))] * 3

    found, failure = asyncio.run(generation_with(settings, lie))
    assert found
    assert failure is None
    assert 1 <= len(refused) <= 2  # a loaded machine may end the agent before the second is read


def test_zz_the_worker_still_stops_in_an_orderly_way(attacked: tuple[LocalBroker, LocalWorker]) -> None:
    _, worker = attacked
    assert worker.stop() == 0
    assert "Traceback" not in worker.log
