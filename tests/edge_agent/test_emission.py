"""Text at once: what an app shows while tokens are drafted and fall is right in the end."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.generation.emission import Decoder, Emission
from edge_agent.generation.events import Emitted, Retraction, Tentative, Token
from edge_agent.report import Report
from edge_agent.session.transcript import Fate, FinalToken
from edge_agent.text.tokenizer import StopStrings, TextStream
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.circle import Circle
from tests.support.small_models import VOCAB_SIZE, FolderOf, make_tokenizer

TOKENIZER = make_tokenizer()
PROMPT = TOKENIZER.encode("turn on").ids


class App:
    """A program that follows the events: `final` never changes, `ahead` is what it would show dimmed."""

    def __init__(self) -> None:
        self.final = ""
        self.tokens: list[int | None] = []
        self.ahead: list[Tentative] = []
        self.num_retractions = 0

    @property
    def shown(self) -> str:
        return self.final + "".join(one.text for one in self.ahead)

    def take(self, event: Emitted) -> None:
        match event:
            case Tentative():
                self.ahead.append(event)
            case Retraction(text, num_tokens):
                fallen = self.ahead[-num_tokens:]
                assert len(fallen) == num_tokens
                assert "".join(one.text for one in fallen) == text
                del self.ahead[-num_tokens:]
                self.num_retractions += 1
            case Token(text, token):
                if self.ahead:  # it confirms the oldest
                    assert (self.ahead[0].text, self.ahead[0].token) == (text, token)
                    del self.ahead[0]
                self.final += text
                self.tokens.append(token)


def emission(stops: Sequence[str] = ()) -> Emission:
    return Emission(Decoder(TextStream(TOKENIZER, PROMPT), StopStrings(stops)))


def cut(tokens: Sequence[int], stops: Sequence[str]) -> str:
    """The text of final tokens alone, as it always was."""
    stream, stopper = TextStream(TOKENIZER, PROMPT), StopStrings(stops)
    text = "".join(stopper.push(stream.push(token)) for token in tokens)
    return text + stopper.push(stream.flush()) + stopper.flush()


def finals(tokens: Sequence[int]) -> list[FinalToken]:
    return [FinalToken(token, Fate.VERIFIED) for token in tokens]


ids = st.integers(0, VOCAB_SIZE - 1)
pieces = st.sampled_from([*TOKENIZER.encode("𝄞 lights offé", add_special_tokens=False).ids])
steps = st.lists(
    st.tuples(st.integers(0, 4), st.lists(ids | pieces, max_size=6), st.integers(0, 6)), max_size=8
)


@given(steps=steps, stops=st.lists(st.sampled_from(["li", "ts o", "f", "é", "𝄞 "]), max_size=2))
@example(steps=[(0, TOKENIZER.encode("𝄞𝄞").ids, 0), (1, TOKENIZER.encode("é").ids, 2)], stops=[])
def test_however_tokens_fall_the_tokens_alone_make_the_text(
    steps: list[tuple[int, list[int], int]], stops: list[str]
) -> None:
    """A step keeps so much of the tail, lets the rest fall, drafts more, and makes some of it final."""
    made, app = emission(stops), App()
    final: list[int] = []
    tail: list[int] = []
    for num_kept, drafted, num_final in steps:
        tail = tail[:num_kept] + drafted
        new, tail = tail[:num_final], tail[num_final:]
        final += new
        for event in made.update(finals(new), tail):
            app.take(event)
        assert app.shown == "".join([app.final, *(one.text for one in app.ahead)])
        assert all(stop not in app.shown for stop in stops)
        if made.stopped:
            break
        assert [one.token for one in app.ahead] == tail
    for event in made.finish():
        app.take(event)
    assert not app.ahead
    assert app.final == app.shown == cut(final, stops)


def test_half_a_character_is_never_shown_and_falls_with_its_other_half() -> None:
    made, app = emission(), App()
    clef, note = (TOKENIZER.encode(text, add_special_tokens=False).ids for text in ("𝄞", "♪"))
    for event in made.update([], clef[:2]):
        app.take(event)
    assert app.shown == ""
    for event in made.update(finals(clef[:2]), clef[2:]):
        app.take(event)
    assert (app.final, app.shown) == ("", "𝄞")
    for event in made.update([], note):
        app.take(event)
    assert app.num_retractions == 1
    assert "𝄞" not in app.shown


def test_nothing_tentative_shows_behind_a_tentative_stop_string_and_it_goes_on_when_that_falls() -> None:
    made, app = emission(["END"]), App()
    words = [TOKENIZER.encode(text, add_special_tokens=False).ids for text in ("go EN", "D on", "try on")]
    for tail in ([*words[0]], [*words[0], *words[1]]):
        for event in made.update([], tail):
            app.take(event)
        assert app.shown == "go "
    for event in made.update(finals(words[0]), words[2]):
        app.take(event)
    assert app.shown == "go ENtry on"


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("<|user|>", "go on"),
        ("on<|user|>", "go "),
        ("<|user|>t", "go on"),
        ("<|user|", "go ontry"),
        ("nt", "go o"),
    ],
)
def test_a_stop_string_may_be_the_text_of_a_special_token(stop: str, text: str) -> None:
    made, app = emission([stop]), App()
    written = TOKENIZER.encode("go on<|user|>try", add_special_tokens=False).ids
    for event in [*made.update([], written), *made.update(finals(written), []), *made.finish()]:
        app.take(event)
    assert app.final == app.shown == text


@given(
    scheme=st.sampled_from(["lossless", "coupled", "opportunistic", "slm", "llm"]),
    seed=st.integers(0, 500),
    window=st.integers(1, 5),
    block_length=st.none() | st.integers(1, 5),
)
@settings(max_examples=60)
def test_in_a_real_session_final_tokens_are_those_that_the_session_gave(
    scheme: str, seed: int, window: int, block_length: int | None
) -> None:
    circle = Circle(scheme=scheme, seed=seed, window=window, block_length=block_length, noise=0.6)
    made, app = emission(), App()
    num_seen = 0
    while True:
        new = circle.final[num_seen:]
        num_seen += len(new)
        for event in made.update(new, circle.edge.tentative):
            app.take(event)
        assert [one.token for one in app.ahead] == list(circle.edge.tentative)
        if circle.edge.finished:
            break
        if circle.edge.wants_draft:
            circle.draft()
        elif circle.to_workers:
            circle.deliver_to_worker(0)
            for name in circle.workers:
                circle.work(name)
        elif circle.to_device:
            circle.deliver_to_device(0)
        else:
            for name in circle.workers:
                circle.work(name)
    for event in made.finish():
        app.take(event)
    assert [token for token in app.tokens if token is not None] == circle.text
    assert app.final == cut(circle.text, [])


async def followed(config: AgentConfig, prompt: str) -> tuple[App, str, list[int]]:
    """The events of one generation, taken in, and its text and tokens without them."""
    async with EdgeAgent.open(config) as agent:
        generation, app = agent.generate(prompt), App()
        async for event in generation.events():
            app.take(event)
        assert generation.failure is None
        assert app.shown == app.final == generation.text
        plain = agent.generate(prompt)
        tokens = [token.token async for token in plain if token.token is not None]
        return app, plain.text, tokens


@pytest.mark.parametrize(
    "scheme",
    ["opportunistic", *(pytest.param(each, marks=pytest.mark.slow) for each in ("lossless", "coupled"))],
)
def test_through_the_broker_tentative_text_falls_and_the_answer_is_that_of_an_app_that_waits(
    scheme: str, broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf
) -> None:
    with LocalWorker(broker.url, "--model", str(family_folder("llama"))):
        config = AgentConfig(
            broker=broker.url,
            model=str(draft_folder("llama")),
            scheme=scheme,
            temperature=1.0,
            seed=3,
            max_tokens=60,
            threshold=0.3,
        )
        app, text, tokens = asyncio.run(followed(config, "Öffne das Fenster 🙂"))
    assert app.final == text
    assert [token for token in app.tokens if token is not None] == tokens
    assert app.num_retractions > 0


async def reported(config: AgentConfig) -> Report:
    async with EdgeAgent.open(config) as agent:
        generation = agent.generate("Öffne das Fenster")
        tokens = [token.token async for token in generation]
        report = Report.of(generation)
        assert len([token for token in tokens if token is not None]) == report.num_tokens
        return report


@pytest.mark.parametrize(
    "scheme",
    [
        "lossless",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("coupled", "opportunistic", "llm", "slm")),
    ],
)
def test_through_the_broker_the_report_of_a_text_with_a_stop_string_is_always_the_same(
    scheme: str, broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf
) -> None:
    def outcome(report: Report) -> tuple[str, str, int, dict[str, int]]:
        return report.text, report.finish_reason, report.num_tokens, report.num_by_fate

    model = str(draft_folder("llama"))
    config = AgentConfig(
        broker=broker.url, model=model, scheme=scheme, temperature=1.0, seed=3, max_tokens=24
    )
    with LocalWorker(broker.url, "--model", str(family_folder("llama"))):
        free = asyncio.run(reported(replace(config, max_tokens=24)))
        stop = free.text[len(free.text) // 2 :][:2]
        outcomes = [
            outcome(
                asyncio.run(reported(replace(config, stop=(stop,), max_tokens=max_tokens, window=window)))
            )
            for max_tokens, window in [(24, 2), (24, 4), (60, 4), (60, 8)]
        ]
    assert outcomes == [outcomes[0]] * len(outcomes)
    assert outcomes[0][:2] == (free.text[: free.text.index(stop)], "stop")
    assert outcomes[0][2] < free.num_tokens


def test_an_app_that_leaves_early_leaves_nothing_behind(draft_folder: FolderOf) -> None:
    async def scenario() -> None:
        config = AgentConfig(model=str(draft_folder("llama")), scheme="slm", max_tokens=30)
        async with EdgeAgent.open(config) as agent:
            events = agent.generate("turn on").events()
            async for _ in events:
                break
            await events.aclose()
            assert [token async for token in agent.generate("turn on")]

    asyncio.run(scenario())
