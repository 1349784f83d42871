"""The flags of `generate` for the form of the answer: a file or a text, one line for each mistake."""

from pathlib import Path

import pytest

from common.protocol.grammar import Grammar
from edge_agent.cli.command_line import run

SCHEMA = '\ufeff{\n  "type": "object"\n}\n'


def asked_for(monkeypatch: pytest.MonkeyPatch, *flags: str) -> Grammar | None:
    """The grammar that the command hands on."""
    found: list[Grammar | None] = []

    def generate(_config: object, _flags: object, grammar: Grammar | None) -> int:
        found.append(grammar)
        return 0

    monkeypatch.setattr("edge_agent.cli.commands.generate", generate)
    assert run(["generate", "--quiet", *flags, "a prompt"]) == 0
    return found[0]


def test_each_flag_is_a_grammar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema, lark = tmp_path / "schema.json", tmp_path / "grammar.lark"
    schema.write_text(SCHEMA, encoding="utf-8")
    lark.write_text("start: /a+/\n")
    assert asked_for(monkeypatch) is None
    assert asked_for(monkeypatch, "--json-schema", str(schema)) == Grammar.json_schema({"type": "object"})
    assert asked_for(monkeypatch, "--regex", "a+") == Grammar.regex("a+")
    assert asked_for(monkeypatch, "--lark", str(lark)) == Grammar.lark("start: /a+/\n")


@pytest.mark.parametrize(
    ("flag", "content", "words"),
    [
        ("--json-schema", None, "cannot be read"),
        ("--json-schema", b"{", "is not valid JSON"),
        ("--json-schema", b"[" * 100_000, "is not valid JSON"),
        ("--json-schema", b"3", "must be a JSON schema"),
        ("--json-schema", b"null", "must be"),
        ("--json-schema", b'{"const": NaN}', "must be a JSON schema without NaN"),
        ("--json-schema", b'{"const": "' + b"x" * 70_000 + b'"}', "must be 1 to 65,536 bytes long"),
        ("--json-schema", b" " * 2_000_000, "shorten it"),
        ("--lark", None, "cannot be read"),
        ("--lark", b"\xff", "cannot be read"),
        ("--lark", b"", "must be"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_one_line_error(
    flag: str, content: bytes | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "form"
    if content is not None:
        path.write_bytes(content)
    assert run(["generate", flag, str(path), "a prompt"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"edge-agent: {flag} {path} ")
    assert words in error
    assert error.count("\n") == 1


def test_only_one_form_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(["generate", "--regex", "a", "--lark", "x", "a prompt"])
    assert left.value.code == 2
    assert "not allowed with" in capsys.readouterr().err
    assert run(["generate", "--regex", "", "a prompt"]) == 2
