"""No library that we use reports on our users: nothing is written for it, in any of our programs.

Each test runs in a home of its own, in an environment in which no library has a reason to be discreet.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from common.process.telemetry import HUB_SWITCH, ORT_SWITCH, SWITCHES, decline_telemetry, is_declined
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.small_models import FolderOf

TIMEOUT = 300.0
REASONS = (  # what makes a library hold back by itself
    "CI",
    "GITHUB_ACTIONS",
    "TF_BUILD",
    "DO_NOT_TRACK",
    "DISABLE_TELEMETRY",
    "ORT_RUNNING_UNIT_TESTS",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    *SWITCHES,
)
PLACES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "HF_HOME", "HF_HUB_CACHE")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, for this process's children."""
    for name in (*REASONS, *PLACES):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def written_in(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*"))


def run(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def agent(*arguments: str) -> str:
    return run("-m", "edge_agent", *arguments)


def test_a_generation_writes_nothing_in_the_users_home(home: Path, draft_folder: FolderOf) -> None:
    model = ("--model", str(draft_folder("llama")))
    assert agent("generate", "turn on the light", "--scheme", "slm", "--max-tokens", "8", *model)
    assert written_in(home) == []


def test_a_model_that_cannot_be_loaded_writes_nothing_either(home: Path, draft_folder: FolderOf) -> None:
    """An error is an event that the runtime would report, with the name of the model file."""
    broken = home.parent / "broken"
    broken.mkdir()
    for path in draft_folder("llama").iterdir():
        (broken / path.name).write_bytes(b"no graph" if path.suffix == ".onnx" else path.read_bytes())
    command = [
        sys.executable,
        "-m",
        "edge_agent",
        "generate",
        "hi",
        "--scheme",
        "slm",
        "--model",
        str(broken),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.returncode, "model.onnx" in done.stderr) == (1, True)
    assert written_in(home) == []


def test_a_worker_and_its_agent_write_nothing_in_the_users_home(
    home: Path, broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf
) -> None:
    with LocalWorker(broker.url, "--model", str(family_folder("llama"))) as worker:
        flags = ("--broker", broker.url, "--model", str(draft_folder("llama")), "--max-tokens", "8")
        assert agent("generate", "turn on the light", *flags)
        worker.stop()
    assert written_in(home) == []


@pytest.mark.parametrize("precision", ["int8", pytest.param("int4", marks=pytest.mark.slow)])
def test_an_export_writes_nothing_in_the_users_home(
    precision: str, home: Path, tmp_path: Path, family_folder: FolderOf
) -> None:
    out = str(tmp_path / "exported")
    agent("export", str(family_folder("llama")), out, "--precision", precision)
    assert written_in(home) == []


@pytest.mark.parametrize(
    "package",
    ["edge_agent", "edge_agent.export", "cloud_worker", "evaluation", "benchmarks", "tests.conftest"],
)
def test_what_loads_a_runtime_after_one_of_our_packages_writes_nothing(package: str, home: Path) -> None:
    run("-c", f"import {package}, onnxruntime, onnxruntime_genai; onnxruntime.SessionOptions()")
    assert written_in(home) == []


def test_the_hub_knows_that_it_is_declined(home: Path) -> None:
    program = "import edge_agent, huggingface_hub.constants as c; print(c.HF_HUB_DISABLE_TELEMETRY)"
    assert run("-c", program).strip() == "True"
    assert written_in(home) == []


# -- the switches --------------------------------------------------------------------------------------


def declined(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Sequence[str | None]:
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    decline_telemetry()
    return [os.environ.get(name) for name in SWITCHES]


def test_telemetry_is_declined_where_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert declined({}, monkeypatch) == ["1", "1"]
    assert is_declined(ORT_SWITCH)


def test_what_the_user_has_set_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    assert declined({ORT_SWITCH: "0"}, monkeypatch) == ["0", "1"]
    assert not is_declined(ORT_SWITCH)
    assert declined({HUB_SWITCH: "yes"}, monkeypatch) == ["1", "yes"]


def test_the_units_and_the_images_decline_telemetry_too() -> None:
    deploy = Path(__file__).parents[2] / "deploy"
    for path in (*(deploy / "systemd").glob("*.service"), deploy / "Dockerfile"):
        for name in SWITCHES:
            assert f"{name}=1" in path.read_text(), (path.name, name)
