"""The files of the page, without a browser: their size, and what they never do."""

from importlib.resources import files

import pytest

MAX_BYTES = 60_000
PAGE = {one.name: one.read_text(encoding="utf-8") for one in files("edge_agent").joinpath("page").iterdir()}
MARKUP_FROM_TEXT = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "setHTML", "DOMParser")
FORBIDDEN_BY_THE_POLICY = ("eval(", "new Function", "style=", "onclick=", "<style")


def test_the_page_is_small() -> None:
    assert "index.html" in PAGE
    assert sum(len(text.encode()) for text in PAGE.values()) < MAX_BYTES


@pytest.mark.parametrize("name", PAGE)
def test_no_file_makes_markup_from_text_or_breaks_the_policy(name: str) -> None:
    assert [word for word in (*MARKUP_FROM_TEXT, *FORBIDDEN_BY_THE_POLICY) if word in PAGE[name]] == []


@pytest.mark.parametrize("name", PAGE)
def test_no_file_names_another_site(name: str) -> None:
    text = PAGE[name].replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert [word for word in ("http://", "https://", "//", "url(") if word in _code(text)] == []


def _code(text: str) -> str:
    """Without comments, which begin with two slashes and a space."""
    return "\n".join(line.partition("// ")[0] for line in text.splitlines())
