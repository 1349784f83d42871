"""Logs: a record names its session, stays on its line, and contains nothing that people wrote."""

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest

from common.process.log import about, configure_logging
from common.protocol.messages import Close, Correction, Draft, DraftToken, Reason, Refusal
from common.protocol.summary import summarise
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.small_models import FolderOf

log = logging.getLogger("tests.log")
Logged = Callable[[], str]
Records = Callable[[str], Logged]  # configures a form


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    """Configures a log format; returns a function that gives everything logged since."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configure(form: str) -> Logged:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        configure_logging("info", form, text_format="%(levelname)s %(message)s")
        return stream.getvalue

    yield configure
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_text_says_behind_the_message_what_it_is_about(records: Records) -> None:
    logged = records("text")
    with about(device="kitchen", session="3f2a"):
        log.info("asked %d times", 2)
    log.info("else")
    assert logged() == "INFO asked 2 times [device kitchen session 3f2a]\nINFO else\n"


def test_json_is_one_object_a_record(records: Records) -> None:
    logged = records("json")
    with about(device="kitchen"), about(session="3f2a"):
        log.warning('a "quoted" message')
    record = json.loads(logged())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", record.pop("time"))
    assert record == {
        "level": "warning",
        "logger": "tests.log",
        "message": 'a "quoted" message',
        "device": "kitchen",
        "session": "3f2a",
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_a_stranger_sent_stays_on_its_line(records: Records, form: str) -> None:
    logged = records(form)
    log.warning("ignored %s", "x\nWARNING all is lost\r\x1b[2J\u2028")
    assert logged().count("\n") == 1
    assert "\x1b" not in logged()
    assert "\u2028" not in logged()


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("evil", ["\x1b[2J", "a\nWARNING all is lost", "\u202e", "\u2028", "\udcff"])
def test_names_control_no_terminal_and_start_no_line(records: Records, form: str, evil: str) -> None:
    logged = records(form)
    with about(device=evil):
        log.info("said")
    assert logged().count("\n") == 1
    assert logged().strip().isprintable()


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_controls_no_terminal(records: Records, form: str) -> None:
    logged = records(form)
    try:
        raise RuntimeError("\x1b[2J \u202e")
    except RuntimeError:
        log.exception("failed")
    assert all(line.isprintable() for line in logged().splitlines())
    assert "RuntimeError: " in logged()


def test_a_traceback_is_a_field_in_json(records: Records) -> None:
    logged = records("json")
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        log.exception("failed")
    assert "RuntimeError: broken" in json.loads(logged())["error"]


def test_warnings_of_libraries_are_records_too(records: Records) -> None:
    logged = records("json")
    warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in json.loads(logged())["message"]


def test_tasks_and_threads_do_not_mix_up_what_they_are_about(records: Records) -> None:
    logged = records("json")

    async def talk(session: str) -> None:
        with about(session=session):
            await asyncio.sleep(0.01)
            log.info(session)
            await asyncio.to_thread(log.info, session)
        log.info("nobody")

    async def both() -> None:
        await asyncio.gather(talk("one"), talk("two"))

    asyncio.run(both())
    with about(session="main"):
        thread = threading.Thread(target=log.info, args=("nobody",))
        thread.start()
        thread.join()
    lines = [json.loads(line) for line in logged().splitlines()]
    assert len(lines) == 7
    assert all(line.get("session", "nobody") == line["message"] for line in lines)


def test_messages_are_logged_without_their_content() -> None:
    tokens = (11111, 22222)
    draft = Draft(3, 1, 7, tokens, (DraftToken(33333),) * 4, bonus=1)
    assert summarise(draft) == "draft 3: base 7, 2 tokens of context, 4 tokens to verify, 1 to add"
    assert summarise(Close()) == "closed"
    assert summarise(Correction(3, 2, 44444, "w")) == "correction 3: 2 accepted"
    assert summarise(Correction(3, 2, 44444, "w", index=5)) == "correction 3: 2 accepted, token 5 of a stream"
    assert (
        summarise(Refusal(3, Reason.TOO_LONG, "w", "9 tokens")) == "refusal of draft 3: too_long (9 tokens)"
    )
    assert summarise(Refusal(3, Reason.NEED_CONTEXT, "w")) == "refusal of draft 3: need_context"


# -- real processes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broker_and_worker(
    tmp_path_factory: pytest.TempPathFactory, family_folder: FolderOf
) -> Iterator[tuple[LocalBroker, LocalWorker]]:
    """A worker that logs everything as JSON."""
    arguments = ("--model", str(family_folder("llama")), "--log-format", "json", "--log-level", "debug")
    with (
        LocalBroker(tmp_path_factory.mktemp("broker")) as broker,
        LocalWorker(broker.url, *arguments, name="one") as worker,
    ):
        yield broker, worker


def test_both_ends_name_the_same_session(
    broker_and_worker: tuple[LocalBroker, LocalWorker], draft_folder: FolderOf
) -> None:
    broker, worker = broker_and_worker
    settings = {"BROKER": broker.url, "MODEL": str(draft_folder("llama")), "DEVICE": "kitchen"}
    logging_settings = {"LOG_FORMAT": "json", "LOG_LEVEL": "debug"}
    environment = {f"EDGE_AGENT_{name}": value for name, value in (settings | logging_settings).items()}
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", "generate", "hello", "--quiet", "--max-tokens", "8"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0
    edge = [json.loads(line) for line in done.stderr.splitlines()]
    cloud = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    (session,) = {record["session"] for record in edge if "session" in record}
    assert edge[-1]["message"].startswith("answered: 8 tokens")
    of_session = [record for record in cloud if record.get("session") == session]
    assert {record["device"] for record in of_session} == {"kitchen"}
    assert of_session[0]["message"].startswith("draft 0: base 0, ")
    assert any(record["message"].startswith("correction 0: ") for record in of_session)
    assert of_session[-1]["message"] == "closed"
    assert all(line.startswith("{") for line in worker.log.splitlines())
