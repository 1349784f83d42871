"""What `generate` is asked: one prompt of several lines, or many prompts from lines."""

import asyncio
import io
import json
import sys
from pathlib import Path

import pytest

from common.sampling.randomness import MAX_SEED
from edge_agent.cli.asks import Ask, Form, Unreadable, asks, parse_line
from edge_agent.cli.input import MAX_CHARACTERS, read_lines, read_whole
from edge_agent.errors import PromptError


def asked(prompt: str | None, file: Path | None, form: Form) -> list[Ask | Unreadable]:
    async def collect() -> list[Ask | Unreadable]:
        return [ask async for ask in asks(prompt, file, form)]

    return asyncio.run(collect())


def written(folder: Path, text: str) -> Path:
    path = folder / "prompts"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_prompt_on_the_command_line_is_asked_as_it_is() -> None:
    assert asked("a\nb\n", None, Form.WHOLE) == [Ask("a\nb\n")]


def test_a_file_is_one_prompt_of_several_lines(tmp_path: Path) -> None:
    file = written(tmp_path, "def f(x):\n\n    return x\n\n")
    assert asked(None, file, Form.WHOLE) == [Ask("def f(x):\n\n    return x")]


def test_lines_are_prompts_and_blank_ones_are_passed_over(tmp_path: Path) -> None:
    file = written(tmp_path, "one\n\n  \ntwo")
    assert asked(None, file, Form.LINES) == [Ask("one"), Ask("two")]


def test_lines_of_json_are_texts_or_objects(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "a\nb"}]
    entries = ["a\nb", {"prompt": "c", "seed": 7, "id": "x"}, {"messages": messages, "id": 3}]
    file = written(tmp_path, "\n".join(map(json.dumps, entries)))
    assert asked(None, file, Form.JSONL) == [Ask("a\nb"), Ask("c", 7, "x"), Ask(messages, id=3)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("3", "neither a JSON text nor an object"),
        ('["a"]', "neither a JSON text nor an object"),
        ("{}", "'prompt', a text, or 'messages'"),
        ('{"prompt": 3}', "'prompt', a text, or 'messages'"),
        ('{"prompt": "a", "messages": []}', "'prompt', a text, or 'messages'"),
        ('{"messages": ["a"]}', "'prompt', a text, or 'messages'"),
        ('{"messages": [{"content": "a"}]}', "'prompt', a text, or 'messages'"),
        ('{"prompt": "a", "temprature": 1}', "unknown field 'temprature'"),
        ('{"prompt": "a", "seed": true}', "'seed' must be a whole number"),
        (f'{{"prompt": "a", "seed": {MAX_SEED + 1}}}', "'seed' must be a whole number"),
        ('{"prompt": "a", "seed": -1}', "'seed' must be a whole number"),
        ('{"prompt": "a", "id": [1]}', "'id' must be"),
        ('{"prompt": "a", "json_schema": "{}"}', "'json_schema' must be a JSON schema"),
        ('{"prompt": "a", "regex": 1}', "'regex' must be a text"),
        ('{"prompt": "a", "regex": "a", "lark": "start: a"}', "give only one of 'regex' and 'lark'"),
        ("x" * (MAX_CHARACTERS + 1), "shorten it"),
    ],
)
def test_a_line_that_is_not_a_prompt_is_named(line: str, words: str) -> None:
    unreadable = parse_line(line, Form.JSONL)
    assert isinstance(unreadable, Unreadable)
    assert words in str(unreadable.error)
    assert "\n" not in str(unreadable.error)


def test_a_line_that_is_not_a_prompt_does_not_hide_the_next(tmp_path: Path) -> None:
    first, second = asked(None, written(tmp_path, '{"promt": 1}\n"two"\n'), Form.JSONL)
    assert isinstance(first, Unreadable)
    assert second == Ask("two")


def test_an_endless_input_is_refused_in_bounded_memory() -> None:
    with open("/dev/zero", encoding="utf-8") as endless, pytest.raises(PromptError, match="shorten it"):
        asyncio.run(read_whole(endless))


def test_a_long_line_is_cut_and_the_next_one_is_whole() -> None:
    async def collect() -> list[str]:
        return [line async for line in read_lines(io.StringIO("x" * (3 * MAX_CHARACTERS) + "\nshort\n"))]

    long, short = asyncio.run(collect())
    assert (len(long), short) == (MAX_CHARACTERS + 1, "short")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(PromptError, match=str(path)):
            asked(None, path, Form.WHOLE)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin"
    path.write_bytes(b"caf\xe9\n")
    for form in Form:
        with pytest.raises(PromptError, match="not UTF-8"):
            asked(None, path, form)


def test_a_byte_order_mark_is_not_part_of_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "marked"
    path.write_bytes(b"\xef\xbb\xbfturn on\r\nthe light\r\n")
    assert asked(None, path, Form.WHOLE) == [Ask("turn on\nthe light")]


def test_an_empty_input_has_no_prompt(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="it is empty"):
        asked(None, written(tmp_path, "\n \n"), Form.WHOLE)
    assert asked(None, written(tmp_path, "\n \n"), Form.LINES) == []


def test_a_closed_standard_input_is_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(PromptError, match="no prompt in standard input"):
        asked("-", None, Form.WHOLE)
    assert asked(None, Path("-"), Form.LINES) == []
