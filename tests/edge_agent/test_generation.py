"""One generation's shell: one call of the draft model at a time, one word about each silence of a cloud."""

import asyncio
import json
import logging
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from common.link import Traffic
from common.process.model_thread import ModelThread
from common.protocol.messages import Correction, Opening, Reason, Refusal
from common.sampling.distribution import Sampling
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.generation.draft_thread import DraftThread
from edge_agent.generation.drafting import Drafting
from edge_agent.generation.emission import Decoder
from edge_agent.generation.generation import Generation
from edge_agent.generation.mailbox import Inbox, Mailbox
from edge_agent.policy.policy import Policy
from edge_agent.policy.schemes import SCHEMES
from edge_agent.session.send_window import Outgoing
from edge_agent.session.session import EdgeSession
from edge_agent.session.settings import OnCloudLoss, SessionSettings
from edge_agent.text.tokenizer import StopStrings, TextStream
from tests.support.small_models import VOCAB_SIZE, FolderOf, make_tokenizer

PATIENCE = 20.0


class SlowModel:
    """Takes its time, and notes how many are in it at once."""

    max_positions = 200

    def __init__(self, seconds: float = 0.1) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self.num_inside = self.most_inside = self.num_calls = 0

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        with self._lock:
            self.num_inside += 1
            self.num_calls += 1
            self.most_inside = max(self.most_inside, self.num_inside)
        time.sleep(self._seconds)
        with self._lock:
            self.num_inside -= 1
        return np.arange(VOCAB_SIZE, dtype=np.float32)[::-1] * len(tokens)


async def consume(generation: Generation) -> int:
    return len([token async for token in generation])


@pytest.mark.parametrize("num_cancels", [1, 2, 5])
def test_a_cancelled_generation_leaves_its_turn_when_the_model_has_returned(
    num_cancels: int, draft_folder: FolderOf
) -> None:
    async def scenario() -> None:
        model = SlowModel()
        config = AgentConfig(model=str(draft_folder("llama")), scheme="slm", max_tokens=3)
        async with EdgeAgent.open(config, model=model) as agent:
            for _ in range(3):
                num_calls = model.num_calls
                task = asyncio.create_task(consume(agent.generate("turn on")))
                following = asyncio.create_task(consume(agent.generate("turn off")))
                while model.num_calls == num_calls:
                    await asyncio.sleep(0.001)
                for _ in range(num_cancels):
                    task.cancel()
                    await asyncio.sleep(0.005)
                await following
                with pytest.raises(asyncio.CancelledError):
                    await task
        assert model.most_inside == 1

    asyncio.run(scenario())


def test_a_timeout_around_a_generation_is_still_a_timeout(draft_folder: FolderOf) -> None:
    async def scenario() -> None:
        model = SlowModel()
        config = AgentConfig(model=str(draft_folder("llama")), scheme="slm", max_tokens=50)
        async with EdgeAgent.open(config, model=model) as agent:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.25):
                    await consume(agent.generate("turn on"))
            assert model.num_inside == 0

    asyncio.run(scenario())


def test_a_failing_model_says_why(draft_folder: FolderOf) -> None:
    class Broken(SlowModel):
        def logits(self, tokens: Sequence[int]) -> np.ndarray:
            raise ArithmeticError(f"no token after {len(tokens)}")

    async def scenario() -> None:
        config = AgentConfig(model=str(draft_folder("llama")), scheme="slm")
        async with EdgeAgent.open(config, model=Broken()) as agent:
            with pytest.raises(ArithmeticError, match="no token after"):
                await consume(agent.generate("turn on"))

    asyncio.run(scenario())


class Cloud:
    """What stands behind a mailbox: silent, busy or rejecting; `thread` is the generation's."""

    def __init__(
        self, *, busy: str | None = None, rejects: int | None = None, after_seconds: float = 0.0
    ) -> None:
        self.inbox: Inbox = asyncio.Queue()
        self.last_n = -1
        self._busy = busy
        self._rejects = rejects
        self._after_seconds = after_seconds
        self.thread = DraftThread()

    def __enter__(self) -> "Cloud":
        self.thread.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.__exit__()

    def join(self, session: str, inbox: Inbox, traffic: Traffic) -> None:  # noqa: ARG002
        assert session == "3f2a"
        self.inbox = inbox

    def leave(self, session: str) -> None:
        raise AssertionError(f"{session} has left")

    async def send(self, session: str, outgoing: Outgoing) -> None:
        assert session == "3f2a"
        n = getattr(outgoing.message, "n", None)
        if n is None:
            return  # a goodbye
        self.last_n = n
        if self._busy is not None:
            self.inbox.put_nowait(Refusal(n, Reason.BUSY, "w0", self._busy))
        elif self._rejects is not None:
            correction = Correction(n, 0, self._rejects, "w0")
            asyncio.get_running_loop().call_later(self._after_seconds, self.inbox.put_nowait, correction)

    def generation(self, scheme: str = "llm", model: SlowModel | None = None) -> Generation:
        """Three tokens are wanted, by default from the target model; times are short."""
        tokenizer = make_tokenizer()
        prompt = tokenizer.encode("turn on").ids
        opening = Opening(b"fakefake", VOCAB_SIZE, Sampling(), 1)
        settings = SessionSettings(
            opening,
            stop_ids=frozenset(),
            max_tokens=3,
            max_positions=100,
            drafts=scheme != "llm",
            window=8,
            on_cloud_loss=OnCloudLoss.WAIT,
            cloud_timeout=0.2,
            min_timeout=0.05,
            first_timeout=1.0,
        )
        policy = Policy(SCHEMES[scheme], opening.sampling, 1, 0.0)
        mailbox = Mailbox("3f2a", self)
        mailbox.join()
        return Generation(
            session=EdgeSession(prompt, settings),
            mailbox=mailbox,
            drafting=Drafting(model or SlowModel(), self.thread, policy, opening),
            decoder=Decoder(TextStream(tokenizer, prompt), StopStrings(())),
            turn=lambda _: nullcontext(),
        )


def test_answers_are_taken_in_while_the_model_works_and_its_draft_for_a_text_that_fell_is_dropped() -> None:
    class Held(SlowModel):
        """Its first draft comes at once, each other one when it is let go."""

        def __init__(self) -> None:
            super().__init__(0.0)
            self.let_go = threading.Event()
            self.asked: list[list[int]] = []

        def logits(self, tokens: Sequence[int]) -> np.ndarray:
            self.asked.append(list(tokens))
            assert len(self.asked) == 1 or self.let_go.wait(PATIENCE)
            return super().logits(tokens)

    async def scenario(cloud: Cloud) -> None:
        model = Held()
        async with asyncio.timeout(PATIENCE):
            tokens = aiter(cloud.generation("lossless", model))
            assert (await anext(tokens)).token == replacement
            while len(model.asked) < 2:  # the second draft is under way
                await asyncio.sleep(0.001)
            model.let_go.set()
            assert [token.token async for token in tokens] == [replacement, replacement]
        prompt, fallen, *later = model.asked
        assert fallen[:-1] == prompt
        assert fallen[-1] != replacement
        assert later[0] == [*prompt, replacement]
        assert model.most_inside == 1

    replacement = 65
    with Cloud(rejects=replacement) as cloud:
        asyncio.run(scenario(cloud))


@pytest.mark.parametrize("scheme", ["llm", "lossless"])
def test_an_answer_is_timed_when_it_arrives_and_not_when_the_agent_began_to_wait(scheme: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        generation = cloud.generation(scheme, SlowModel(0.0))
        await consume(generation)
        session = generation.session
        assert session.round_trip.smoothed is not None
        assert session.round_trip.smoothed >= 0.9 * seconds  # timers may be a little early
        assert session.pacing.network is not None
        assert session.pacing.network >= 0.9 * seconds

    seconds = 0.15  # less than `cloud_timeout`, whose end would set the time
    with Cloud(rejects=65, after_seconds=seconds) as cloud:
        asyncio.run(scenario(cloud))


def test_a_model_thread_runs_one_call_at_a_time_raises_what_it_raised_and_refuses_when_it_has_ended() -> None:
    async def scenario() -> None:
        model = SlowModel(0.01)
        with ModelThread() as thread:
            waiting = [thread.start(lambda: model.logits([1])) for _ in range(5)]
            waiting[0].cancel()
            with pytest.raises(ZeroDivisionError):
                await thread.start(lambda: 1 // 0)
            await asyncio.gather(*waiting[1:])
        assert (model.num_calls, model.most_inside) == (5, 1)
        with pytest.raises(RuntimeError, match="closed"):
            thread.start(lambda: 0)

    asyncio.run(scenario())


def test_a_draft_that_returns_while_the_app_is_busy_with_a_token_is_not_missed(
    draft_folder: FolderOf,
) -> None:
    async def scenario() -> None:
        config = AgentConfig(model=str(draft_folder("llama")), scheme="slm", max_tokens=4)
        async with EdgeAgent.open(config, model=SlowModel(0.01)) as agent:
            tokens = 0
            async for _ in agent.generate("turn on"):
                tokens += 1
                await asyncio.sleep(0.1)
            assert tokens == 4

    asyncio.run(scenario())


async def until_logged(caplog: pytest.LogCaptureFixture, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(caplog.messages) < count:
            await asyncio.sleep(0.01)


def test_each_silence_is_logged_once_when_the_agent_waits(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async def scenario(cloud: Cloud) -> None:
        task = asyncio.create_task(consume(cloud.generation()))
        await until_logged(caplog, 1)
        await asyncio.sleep(1.0)
        assert caplog.messages == ["still asking: no worker answered for 0.2 s"]
        cloud.inbox.put_nowait(Correction(cloud.last_n, 0, 65, "w0"))
        await until_logged(caplog, 2)
        await asyncio.sleep(1.0)
        assert len(caplog.messages) == 2
        task.cancel()
        await asyncio.wait([task])

    with Cloud() as cloud:
        asyncio.run(scenario(cloud))


def test_a_busy_pool_is_logged_with_what_its_worker_says(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async def scenario(cloud: Cloud) -> None:
        task = asyncio.create_task(consume(cloud.generation()))
        await until_logged(caplog, 1)
        await asyncio.sleep(1.0)
        assert len(caplog.messages) == 1
        assert "was busy: 9 sessions are waiting (w0)" in caplog.messages[0]
        task.cancel()
        await asyncio.wait([task])

    with Cloud(busy="9 sessions are waiting") as cloud:
        asyncio.run(scenario(cloud))


def test_settings_of_the_model_that_are_not_applied_are_logged_once_at_start(
    draft_folder: FolderOf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    folder = Path(shutil.copytree(draft_folder("llama"), tmp_path / "model"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 1, "no_repeat_ngram_size": 3}))

    async def scenario() -> None:
        config = AgentConfig(model=str(folder), scheme="slm", max_tokens=2)
        async with EdgeAgent.open(config) as agent:
            await consume(agent.generate("turn on"))
            await consume(agent.generate("turn off"))

    asyncio.run(scenario())
    assert caplog.messages == ["not applied from the model's generation_config.json: no_repeat_ngram_size"]
