"""What surrounds a process: closed streams, homes that do not exist, hostile text, and foreign web pages."""

import http.client
import os
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from common.process.http_pages import HttpPage, HttpPages
from common.process.log import printable
from common.process.paths import path_flag
from edge_agent.__main__ import main as edge_agent_main
from edge_agent.cli.terminal import painter
from edge_agent.generation.events import Token
from edge_agent.session.transcript import Fate
from evaluation.local.broker import free_port
from mosquitto.provisioning.__main__ import main as provision_main

CLOSINGS = ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"]
COMMANDS = {
    "edge_agent": ["generate", "--scheme", "slm", "--max-tokens", "3", "turn on the light"],
    "edge_agent ": ["generate", "--scheme", "slm", "--max-tokens", "3", "--lines", "-"],
    "edge_agent  ": ["chat", "--scheme", "slm"],
    "cloud_worker": ["status", "--broker", "mqtt://127.0.0.1:1"],
    "mosquitto.provisioning": ["list", "--folder", "/nowhere"],
}


@pytest.mark.parametrize("closing", CLOSINGS)
@pytest.mark.parametrize("package", COMMANDS)
def test_closed_standard_streams_are_no_trouble(package: str, closing: str) -> None:
    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            f'exec "$@" {closing}',
            "sh",
            sys.executable,
            "-m",
            package.strip(),
            *COMMANDS[package],
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode == (0 if package.startswith("edge_agent") else 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "--scheme", "slm", "--model", "~nobody-of-that-name/model", "x"),
        ("generate", "--scheme", "slm", "--config", "~nobody-of-that-name/a.toml", "x"),
        ("generate", "--scheme", "opportunistic", "--calibration", "~nobody-of-that-name/c.json", "x"),
        ("generate", "--username", "a", "--password-file", "~nobody-of-that-name/p", "x"),
        ("generate", "--broker", "mqtts://127.0.0.1:1", "--ca-file", "~nobody-of-that-name/ca", "x"),
    ],
)
def test_the_home_of_an_unknown_user_is_one_sentence(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "edge_agent", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1
    assert "nobody-of-that-name" in done.stderr


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (edge_agent_main, ["generate", "--file=~nobody-of-that-name/p"]),
        (edge_agent_main, ["pull", "a/b", "--to=~nobody-of-that-name/m"]),
        (edge_agent_main, ["bundle", "~nobody-of-that-name"]),
        (edge_agent_main, ["export", "a", "~nobody-of-that-name/out"]),
        (provision_main, ["init", "--folder=~nobody-of-that-name/f"]),
    ],
)
def test_no_folder_is_made_with_the_name_of_an_unknown_user(
    main: Callable[[list[str]], int],
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(arguments)
    shown = capsys.readouterr().err
    assert "there is no user 'nobody-of-that-name': write ./~nobody-of-that-name" in shown
    assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_path_on_a_command_line_begins_in_the_home_as_in_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert path_flag("~/models") == tmp_path / "models"
    (tmp_path / "~draft").touch()
    assert path_flag("~draft") == Path("~draft")  # a file that is there


class Screen(StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize("shows_tokens", [True, False])
def test_no_text_changes_the_direction_of_a_terminal(shows_tokens: bool) -> None:
    paint = painter(Screen(), shows_tokens=shows_tokens, shows_tentative=False)
    shown = paint(Token(f"a{DIRECTIONS}b \u05e9\u05dc\u05d5\u05dd", 1, Fate.VERIFIED))
    assert not set(shown) & set(DIRECTIONS)
    assert "\u05e9\u05dc\u05d5\u05dd" in shown  # text that is written from the right stays


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("\u200e\u200f\u061c", ""),  # marks, which turn digits around: left out
        ("\u2028\u2029", "\ufffd\ufffd"),  # breaks in some terminals only
        ("\U000e0001\U000e0041\U000e007f", "\ufffd\ufffd\ufffd"),  # tags: ASCII that is not shown
        ("\ufff9\ufffb\u206a\u206f", "\ufffd\ufffd\ufffd\ufffd"),
        ("\u0646\u200c\u0648 \U0001f469\u200d\U0001f4bb \u2764\ufe0f", None),  # Persian and emoji need these
    ],
)
@pytest.mark.parametrize("shows_tentative", [True, False])
def test_what_hides_or_turns_text_stays_off_a_terminal_and_reaches_a_pipe(
    hidden: str, shown: str | None, shows_tentative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    token = Token(f"a{hidden}b", 1, Fate.VERIFIED)
    paint = painter(Screen(), shows_tokens=False, shows_tentative=shows_tentative)
    assert paint(token) == f"a{hidden if shown is None else shown}b"
    assert painter(StringIO(), shows_tokens=False, shows_tentative=shows_tentative)(token) == token.text


def test_a_message_is_one_line_that_controls_nothing() -> None:
    assert printable("a\u202eb\n\x1b[2Jc") == "a\\u202eb\\n\\x1b[2Jc"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9100", 200),
        ("localhost.", 200),
        ("127.0.0.1:9100", 200),
        ("192.168.1.4", 200),
        ("[::1]:9100", 200),
        (None, 200),
        ("evil.example", 403),
        ("evil.example:9100", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ],
)
def test_a_loopback_page_answers_to_no_foreign_name(host: str | None, status: int) -> None:
    port = free_port()
    with HttpPages("127.0.0.1", port, {"/metrics": lambda: HttpPage.text("secret")}):
        assert asked(port, host) == (status, status == 200)


def test_a_page_for_other_machines_answers_to_every_name() -> None:
    port = free_port()
    with HttpPages("0.0.0.0", port, {"/metrics": lambda: HttpPage.text("secret")}):
        assert asked(port, "worker-1.monitoring.svc:9100") == (200, True)


def asked(port: int, host: str | None) -> tuple[int, bool]:
    """The status of /metrics for a Host header, and whether the page is shown."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("GET", "/metrics", skip_host=True)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, b"secret" in body


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    program = (
        "from common.process.streams import open_missing_streams\n"
        "open_missing_streams()\n"
        f"number = open({str(tmp_path / 'file')!r}, 'w').fileno()\n"
        "assert number > 2, number\n"
        "print('nowhere', flush=True)\n"
    )
    command = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", program]
    assert (
        subprocess.run(command, timeout=30, check=False, env={**os.environ, "PYTHONPATH": "."}).returncode
        == 0
    )
