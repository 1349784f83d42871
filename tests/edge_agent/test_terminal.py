"""What a person sees: a small terminal reads the output, and in the end shows the final text alone."""

import io
import os
import pty
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cli.terminal import DIM, ERASE, Screen, coloured, painter
from edge_agent.generation.events import Retraction, Tentative, Token
from edge_agent.session.transcript import Fate
from tests.support.small_models import FolderOf

SEQUENCE = re.compile(r"\x1b(?:[78]|\[[0-9;]*[a-zA-Z])|.", re.DOTALL)


class Terminal:
    """A grid of so many columns that wraps late, as real ones do; every character is one cell wide."""

    def __init__(self, num_columns: int) -> None:
        self.num_columns = num_columns
        self.lines: list[str] = [""]
        self.column = 0
        self._saved = (0, 0)

    def write(self, text: str) -> None:
        for part in SEQUENCE.findall(text):
            if part == "\x1b7":
                self._saved = (len(self.lines), self.column)
            elif part == "\x1b8":
                assert self._saved[0] == len(self.lines), "the screen has scrolled"
                self.column = self._saved[1]
            elif part == ERASE:
                self.lines[-1] = self.lines[-1][: min(self.column, self.num_columns - 1)]
            elif part == "\n":
                self.lines.append("")
                self.column = 0
            elif not part.startswith("\x1b"):
                if self.column == self.num_columns:
                    self.lines.append("")
                    self.column = 0
                self.lines[-1] = self.lines[-1][: self.column] + part + self.lines[-1][self.column + 1 :]
                self.column += 1


def seen(num_columns: int, *written: str) -> list[str]:
    terminal = Terminal(num_columns)
    for text in written:
        terminal.write(text)
    return terminal.lines


texts = st.text("abc \n", max_size=9)
steps = st.lists(st.tuples(st.integers(0, 3), st.lists(texts, max_size=4), st.integers(0, 4)), max_size=8)


@given(steps=steps, num_columns=st.integers(2, 12))
def test_only_final_text_stays_on_the_screen(
    steps: list[tuple[int, list[str], int]], num_columns: int
) -> None:
    screen, terminal = Screen(coloured, lambda: num_columns), Terminal(num_columns)
    ahead: list[str] = []
    final: list[str] = []
    for num_kept, drafted, num_final in steps:
        if ahead[num_kept:]:
            fallen, ahead = ahead[num_kept:], ahead[:num_kept]
            terminal.write(screen.show(Retraction("".join(fallen), len(fallen))))
        for text in drafted:
            ahead.append(text)
            terminal.write(screen.show(Tentative(text, 1)))
        for _ in range(min(num_final, len(ahead))):
            final.append(ahead.pop(0))
            terminal.write(screen.show(Token(final[-1], 1, Fate.VERIFIED)))
    if ahead:
        terminal.write(screen.show(Retraction("".join(ahead), len(ahead))))
    assert terminal.lines == seen(num_columns, *final)


def test_tentative_text_is_dim_and_behind_the_final_text() -> None:
    screen = Screen(lambda token: token.text, lambda: 20)
    written = screen.show(Token("turn ", 1, Fate.VERIFIED)) + screen.show(Tentative("on", 2))
    assert DIM in written
    assert seen(20, written) == ["turn on"]
    assert seen(20, written + screen.show(Retraction("on", 1))) == ["turn "]


def test_wide_characters_take_two_cells() -> None:
    screen = Screen(lambda token: token.text, lambda: 6)
    screen.show(Token("灯灯", 1, Fate.VERIFIED))
    assert "x" in screen.show(Tentative("x", 2))
    assert "灯" not in screen.show(Tentative("灯", 2))


@pytest.mark.parametrize("terminal", ["dumb", ""])
def test_nothing_tentative_reaches_a_pipe_or_a_terminal_that_cannot_erase(
    terminal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", terminal or "xterm")
    stream = io.StringIO()
    stream.isatty = lambda: bool(terminal)
    paint = painter(stream, shows_tokens=False, shows_tentative=True)
    assert paint(Tentative("x", 1)) + paint(Token("y", 1, Fate.LOCAL)) == "y"


@pytest.mark.parametrize("tentative", [False, True])
def test_a_text_cannot_play_with_the_terminal_but_a_file_gets_it_as_it_is(
    tentative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    hostile = Token("a\x1b]0;title\x07\x9b2J\r\tb\n", 1, Fate.TARGET)
    stream = io.StringIO()
    assert painter(stream, shows_tokens=False, shows_tentative=tentative)(hostile) == hostile.text
    stream.isatty = lambda: True
    shown = painter(stream, shows_tokens=False, shows_tentative=tentative)(hostile)
    assert shown == "a�]0;title��2J�\tb\n"


def test_on_a_real_terminal_the_answer_is_what_remains(draft_folder: FolderOf) -> None:
    command = [sys.executable, "-m", "edge_agent", "generate", "turn on", "--scheme", "slm", "--quiet"]
    command += [
        "--model",
        str(draft_folder("llama")),
        "--max-tokens",
        "20",
        "--seed",
        "1",
        "--temperature",
        "1",
    ]
    plain = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(
        [*command, "--tentative"], stdout=theirs, stderr=subprocess.PIPE, env=environment
    ) as agent:
        os.close(theirs)
        written = b""
        try:
            while data := os.read(ours, 4096):
                written += data
        except OSError:  # Linux says so when the other side has closed
            pass
        os.close(ours)
    assert agent.returncode == 0
    assert seen(200, written.decode().replace("\r\n", "\n")) == plain.split("\n")
