"""The page of an agent in a real Chromium, which skips where there is none.

Law: whatever a test does with a page, it asked no other machine for anything, broke no security policy and
logged no error.
"""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
START = "--no-sandbox", "--disable-gpu"
TIMEOUT = 20_000  # ms
_NOTES_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (one) => window.violations.push(one.violatedDirective));
"""
_READS = (
    """(bubble) => [...bubble.querySelectorAll(".t")].map((one) => one.firstChild?.data ?? "").join("")"""
)


@contextmanager
def browsing() -> Generator[Browser]:
    """A browser for several pages."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(START))
        yield browser
        browser.close()


@contextmanager
def open_page(
    browser: Browser,
    url: str,
    *,
    width: int = 1200,
    height: int = 800,
    is_ready: bool = True,
) -> Generator[Page]:
    """The page in a window of its own; its law is checked at the end."""
    context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
    context.set_default_timeout(TIMEOUT)
    context.add_init_script(_NOTES_VIOLATIONS)
    page = context.new_page()
    errors: list[str] = []
    asked: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            errors.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    if is_ready:
        page.wait_for_selector("#pill[data-state=good]")
    yield page
    violations: Any = page.evaluate("window.violations")
    context.close()
    assert [one for one in asked if not one.startswith(f"{url}/")] == []
    assert violations == []
    assert errors == []


def choose(page: Page, **settings: str) -> None:
    """Set fields of the settings by their ids, in this order; `scheme` and `format` too."""
    page.evaluate("document.getElementById('settings').open = true")
    for name, value in settings.items():
        if name in ("scheme", "format"):
            page.select_option(f"#{name}", value)
        else:
            page.fill(f"#{name}", value)


def write(page: Page, prompt: str) -> None:
    """Send a prompt, and wait for nothing."""
    page.fill("#prompt", prompt)
    page.press("#prompt", "Enter")


def finished(page: Page, num_answers: int = 1) -> None:
    """Wait until so many answers have ended."""
    page.wait_for_function(
        "(number) => document.querySelectorAll('.theirs .meta button').length >= number", arg=num_answers
    )


def text_of(page: Page, number: int = -1) -> str:
    """The text of an answer, without what only screen readers get."""
    text: Any = page.locator(".theirs .bubble").nth(number).evaluate(_READS)
    return str(text)


def marks_of(page: Page, number: int = -1) -> list[str]:
    """The fates of the tokens of an answer, as marked."""
    spans = page.locator(".theirs").nth(number).locator(".t")
    marks: Any = spans.evaluate_all("(all) => all.map((one) => one.dataset.fate)")
    return list(marks)
