"""The page that `serve` shows, in a real Chromium, with a real broker, worker and agent."""

import json
import os
import signal
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Browser, Page, Route, expect

from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.browsing import TIMEOUT, browsing, choose, finished, marks_of, open_page, text_of, write
from tests.support.serving import ServingAgent

PROMPT = "i need the telly in the dining room on channel 49 at quarter past 11 tonight"
HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script> \x1b[31m\u202e</div> & <b>bold</b>'
VIEWS = ("chat", "pool", "results", "json")
MODES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

expect.set_options(timeout=TIMEOUT)


@dataclass(frozen=True)
class Home:
    """All parts that a page needs, as processes."""

    broker: LocalBroker
    worker: LocalWorker
    agent: ServingAgent
    browser: Browser

    @contextmanager
    def paused_worker(self) -> Generator[None]:
        """Within the block, answers that need the cloud stand still."""
        stopped = self.worker.pid
        os.kill(stopped, signal.SIGSTOP)
        try:
            yield
        finally:
            if self.worker.is_running:
                os.kill(stopped, signal.SIGCONT)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with ExitStack() as stack:
        browser = stack.enter_context(browsing())
        broker = stack.enter_context(LocalBroker(tmp_path_factory.mktemp("broker")))
        worker = LocalWorker(broker.url, "--model", "demo", name="w1")
        stack.push(worker)
        worker.launch()
        agent = stack.enter_context(
            ServingAgent("--broker", broker.url, "--cloud-timeout", "3", "--device", "hall")
        )
        worker.wait_ready()
        yield Home(broker, worker, agent, browser)


def test_an_answer_is_marked_token_by_token_as_the_agent_reports_it(home: Home) -> None:
    with open_page(home.browser, home.agent.url) as page:
        choose(page, scheme="lossless", seed="7")
        write(page, PROMPT)
        finished(page)
        own = {"scheme": "lossless"}
        body = {"messages": [{"role": "user", "content": PROMPT}], "seed": 7, "hybrid_lm": own}
        direct = home.agent.request("/v1/chat/completions", body).json
        assert text_of(page) == direct["choices"][0]["message"]["content"]
        fates = {fate: n for fate, n in direct["hybrid_lm"]["num_by_fate"].items() if n}
        marks = Counter(marks_of(page))
        marks["verified"] += 1  # the token that ends the text has none, so no mark
        assert marks == fates
        corrected = page.locator(".theirs .corrected").first
        was = corrected.get_attribute("data-replaced")
        assert was
        assert f"corrected, was {json.dumps(was)}" in corrected.inner_text()  # for screen readers
        corrected.focus()
        assert f"the draft was {was}" in page.locator("#tip").inner_text()
        page.keyboard.press("Escape")
        expect(page.locator("#tip")).to_be_hidden()
        assert page.locator(".tentative:not(.legend *)").count() == 0
        tokens = direct["hybrid_lm"]["num_tokens"]
        expect(page.locator("#f-hlm")).to_have_text(f"{2 * 1280 * tokens / 1000:.0f} kB")
        expect(page.locator("#f-agent")).to_contain_text("Workerw1")
        shown = text_of(page)
        page.click("#tab-json")
        answer = json.loads(page.locator("#json-raw").inner_text())["answer"]
        assert answer["text"] == shown
        assert page.locator("#f-uplinks").text_content() == str(answer["hybrid_lm"]["num_uplinks"])
        expect(page.locator("#json-note")).to_have_text("✓ Valid JSON in the first line")


def test_again_with_its_seed_gives_the_same_text_and_the_risk_is_shown_against_its_budget(home: Home) -> None:
    with open_page(home.browser, home.agent.url) as page:
        choose(page, scheme="opportunistic", risk="0.005", temperature="1.5")
        write(page, PROMPT)
        finished(page)
        page.get_by_role("button", name="Again with this seed").click()
        finished(page, 2)
        assert text_of(page, 0) == text_of(page, 1)
        expect(page.locator(".theirs").nth(1)).to_contain_text("the same text again")
        bar = page.locator("#bar")
        assert float(bar.get_attribute("aria-valuemax") or 0) == 0.01
        assert "budget 0.005" in (bar.get_attribute("aria-valuetext") or "")
        expect(page.locator("#f-budget")).to_have_text("of 0.005 per token")
        choose(page, scheme="lossless")
        expect(page.locator("#risk")).to_be_disabled()


def test_a_stopped_answer_keeps_its_text(home: Home) -> None:
    with open_page(home.browser, home.agent.url) as page, home.paused_worker():
        choose(page, scheme="opportunistic", seed="7")
        write(page, PROMPT)
        expect(page.locator(".theirs .tentative").first).to_be_visible()
        page.keyboard.press("Escape")
        finished(page)
        assert text_of(page).startswith('[{"device":"tv"')
        expect(page.locator(".theirs .meta")).to_contain_text("stopped")
        expect(page.locator(".theirs .tentative")).to_have_count(0)
        expect(page.locator("#send")).to_be_visible()


def test_markup_and_escapes_of_people_and_models_stay_text(home: Home) -> None:
    with open_page(home.browser, home.agent.url) as page:
        answer_with(page, HOSTILE)
        write(page, HOSTILE)
        finished(page)
        assert page.locator(".mine .bubble").evaluate("(one) => one.textContent") == HOSTILE
        assert text_of(page) == HOSTILE
        assert page.locator("#log :is(img, script, b, a)").count() == 0
        page.locator(".theirs .corrected").focus()
        for view in ("results", "json"):
            page.click(f"#tab-{view}")
        page.route("**/hybrid/v1/pool", lambda route: route.fulfill(json=hostile_pool()))
        page.click("#tab-pool")
        expect(page.locator("#pool tbody td").first).to_have_text(HOSTILE)
        assert page.locator(":is(#pool, #results, #json, #tip) :is(img, script, del *)").count() == 0


def answer_with(page: Page, text: str) -> None:
    """Let the next answers have a text that no honest model would write."""
    report: dict[str, Any] = {"num_by_fate": {"corrected": 1}, "seconds": 1, "num_tokens": 1, "seed": 1}
    chunks: list[dict[str, Any]] = [
        {"id": text, "choices": [], "hybrid_lm": {"tentative": text, "token": 1}},
        {"id": text, "choices": [], "hybrid_lm": {"retract": 1, "text": text}},
        {
            "choices": [{"delta": {"content": text}}],
            "hybrid_lm": {"fate": "corrected", "token": 1},
        },
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "hybrid_lm": {**report, "worker": text}},
    ]
    stream = "".join(f"data: {json.dumps(one)}\n\n" for one in chunks) + "data: [DONE]\n\n"

    def answer(route: Route) -> None:
        route.fulfill(body=stream, content_type="text/event-stream")

    page.route("**/v1/chat/completions", answer)


def hostile_pool() -> dict[str, Any]:
    names = dict.fromkeys(("worker", "state", "model", "version"), HOSTILE)
    return {"pool": HOSTILE, "workers": [{**names, "sessions": HOSTILE, "seconds_ago": None}]}


def test_the_pool_shows_its_workers(home: Home) -> None:
    with open_page(home.browser, home.agent.url) as page:
        page.click("#tab-pool")
        row = page.locator("#pool tbody tr")
        expect(row).to_contain_text("w1")
        expect(row).to_contain_text("online")


def test_a_narrow_screen_never_scrolls_sideways(home: Home) -> None:
    with open_page(home.browser, home.agent.url, width=360, height=640) as page:
        assert overflow(page) == 0
        choose(page, scheme="opportunistic", max_tokens="40")
        write(page, f"{PROMPT} {'x' * 200}")
        finished(page)
        page.locator("#figures").evaluate("(one) => { one.open = true; }")
        assert overflow(page) == 0
        for view in VIEWS[1:]:
            page.click(f"#tab-{view}")
            assert overflow(page) == 0, view


def overflow(page: Page) -> int:
    """How far the document is wider than its window."""
    wider: Any = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return max(0, int(wider))


@pytest.mark.skipif(
    not find_spec("axe_playwright_python"), reason="axe-playwright-python, which brings axe-core, is missing"
)
def test_axe_finds_nothing_in_light_and_in_dark_mode(home: Home) -> None:
    with open_page(home.browser, home.agent.url) as page:
        choose(page, scheme="lossless", seed="7")
        write(page, PROMPT)
        finished(page)
        for number, view in enumerate(VIEWS):
            page.click(f"#tab-{view}")
            if view == "pool":
                page.wait_for_selector("#pool tbody td")
            if view == "chat":
                choose(page, format="json_schema", schema="{")
            for colours in MODES if view == "chat" else MODES[number % 2 :][:1]:
                page.emulate_media(color_scheme=colours)
                assert faults(page) == [], (view, colours)


def faults(page: Page) -> list[str]:
    """What axe-core finds; its code runs through the debugger, so the page's policy does not forbid it."""
    spec = find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.origin is not None
    page.evaluate((Path(spec.origin).parent / "axe.min.js").read_text())
    found: Any = page.evaluate("axe.run().then((found) => found.violations)")
    return [f"{one['impact']}: {one['id']}: {one['nodes'][0]['html'][:200]}" for one in found]


def test_the_keyboard_alone_is_enough(home: Home) -> None:
    with open_page(home.browser, home.agent.url) as page:
        keys = page.keyboard
        keys.press("Tab")
        keys.press("Enter")  # the link that skips to the prompt
        keys.type("turn on the light")
        keys.press("Shift+Enter")
        keys.type("in the kitchen")
        keys.press("Enter")
        finished(page)
        assert page.locator(".mine .bubble").inner_text() == "turn on the light\nin the kitchen"
        page.focus("#tab-chat")
        for key, view in (
            ("ArrowRight", "pool"),
            ("End", "json"),
            ("ArrowLeft", "results"),
            ("Home", "chat"),
        ):
            keys.press(key)
            assert page.locator("[role=tabpanel]:visible").get_attribute("id") == view
        for _ in range(30):
            keys.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "Again with this seed":
                break
        keys.press("Enter")
        finished(page, 2)


def test_a_schema_that_is_no_json_is_not_sent(home: Home) -> None:
    with open_page(home.browser, home.agent.url) as page:
        expect(page.locator("#schema")).to_be_hidden()
        choose(page, format="json_schema", schema='{"type": ')
        page.evaluate("document.getElementById('settings').open = false")
        write(page, PROMPT)
        expect(page.locator("#schema")).to_be_focused()  # with the browser's message beside it
        assert (
            page.locator("#schema").evaluate("(one) => one.validationMessage") == "This is not a JSON schema."
        )
        assert page.locator(".mine").count() == 0
        assert page.input_value("#prompt") == PROMPT
        choose(page, format="")
        expect(page.locator("#schema")).to_be_hidden()
        page.press("#prompt", "Enter")
        finished(page)


def test_a_screen_reader_gets_whole_sentences(home: Home) -> None:
    with open_page(home.browser, home.agent.url) as page:
        assert page.locator("#live").get_attribute("aria-live") == "polite"
        assert page.locator("#log").get_attribute("aria-live") == "off"
        choose(page, scheme="lossless", seed="7", temperature="0")
        write(page, PROMPT)
        finished(page)
        said = page.locator("#live p").all_inner_texts()
        assert said[:2] == text_of(page).split("\n")
        assert said[2].startswith("Answer complete. ")


def begin(page: Page) -> None:
    """Ask, and wait for tentative text: with a paused worker, that is as far as the answer gets."""
    choose(page, scheme="opportunistic", seed="7")
    write(page, PROMPT)
    expect(page.locator(".theirs .tentative").first).to_be_visible()


@pytest.mark.slow
def test_a_lost_broker_is_shown_and_ends_the_answer_with_an_error(home: Home) -> None:
    with open_page(home.browser, home.agent.url) as page:
        with home.paused_worker():
            begin(page)
            home.broker.kill()
            expect(page.locator("#banner-text")).to_contain_text("The cloud is away")
            expect(page.locator(".theirs .error")).to_be_visible()
        finished(page)
        assert "The text above is what had arrived." in page.locator(".theirs .error").inner_text()
        home.broker.start()
        expect(page.locator("#banner")).to_be_hidden()
        page.get_by_role("button", name="Try again with this seed").click()
        finished(page, 2)
        assert page.locator(".theirs").nth(1).locator(".error").count() == 0


@pytest.mark.slow
def test_a_killed_worker_ends_the_answer_with_an_error_and_the_next_has_it_back(home: Home) -> None:
    with open_page(home.browser, home.agent.url) as page:
        with home.paused_worker():
            begin(page)
            home.worker.kill()
        expect(page.locator(".theirs .error")).to_be_visible()  # after the timeout: no worker is left
        finished(page)
        home.worker.launch()
        home.worker.wait_ready()
        page.get_by_role("button", name="Try again with this seed").click()
        finished(page, 2)
        assert page.locator(".theirs").nth(1).locator(".error").count() == 0
        assert text_of(page, 1)


@pytest.mark.slow
def test_a_restarted_agent_is_found_again(home: Home) -> None:
    with open_page(home.browser, home.agent.url) as page:
        with home.paused_worker():
            begin(page)
            home.agent.kill()
            expect(page.locator(".theirs .error")).to_contain_text("broke off")
        expect(page.locator("#banner")).to_contain_text("The agent cannot be reached")
        home.agent.start()
        page.wait_for_selector("#pill[data-state=good]")
        expect(page.locator("#banner")).to_be_hidden()
        write(page, PROMPT)
        finished(page, 2)
        assert text_of(page)


def test_a_key_is_asked_for_once(home: Home) -> None:
    with (
        ServingAgent("--scheme", "slm", environment={"EDGE_AGENT_HTTP_KEY": "a-good-key"}) as agent,
        open_page(home.browser, agent.url, is_ready=False) as page,
    ):
        for key in ("a-wrong-key", "a-good-key"):
            page.fill("#key", key)
            page.press("#key", "Enter")
            if key == "a-wrong-key":
                expect(page.locator("#key-error")).to_be_visible()
        page.wait_for_selector("#pill[data-state=good]")
        page.reload()
        page.wait_for_selector("#pill[data-state=good]")
        write(page, "turn on the kitchen light")
        finished(page)
        assert set(marks_of(page)) == {"local"}


def test_a_running_answer_reports_what_it_has_sent_to_those_who_show_tentative_text(home: Home) -> None:
    for shows in (True, False):
        own = {"scheme": "lossless", "tentative": shows}
        body = {"messages": [{"role": "user", "content": PROMPT}], "stream": True, "hybrid_lm": own}
        lines = home.agent.request("/v1/chat/completions", body).body.decode().split("\n\n")
        chunks: list[dict[str, Any]] = [json.loads(one[6:]) for one in lines if one.startswith("data: {")]
        reports = [one["hybrid_lm"]["so_far"] for one in chunks if "so_far" in one.get("hybrid_lm", {})]
        assert bool(reports) is shows
        numbers = [one["num_uplinks"] for one in reports]
        assert numbers == sorted(set(numbers))
        end = chunks[-1]["hybrid_lm"]
        assert all(one["bytes_up"] <= end["bytes_up"] and one.keys() <= end.keys() for one in reports)
