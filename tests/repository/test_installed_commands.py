"""Every command runs from the installed wheel in an empty folder, away from any checkout."""

import json
from pathlib import Path

import pytest

from tests.support.distribution import Installed

PACKAGES = ("common", "edge_agent", "cloud_worker", "evaluation")
LOCAL = ("--scheme", "slm", "--max-tokens", "4")  # needs no worker
RESEARCH = (
    ("calibrate", "--num", "2", "--max-tokens", "32"),
    ("quality", "--num", "1", "--seeds", "1", "--scheme", "slm"),
    ("simulate", "compare", "--commands", "1", "--ways", "slm,lossless"),
    ("bytes", "--commands", "1", "--num", "1"),
)
# one process, for most of the time of such a command goes into importing torch
ALL_IN_ONE = """
import json, sys
from evaluation.__main__ import main
for arguments in json.loads(sys.argv[1]):
    if code := main(arguments):
        sys.exit(f"{arguments}: {code}")
"""


def test_the_modules_are_those_of_the_wheel(installed: Installed, tmp_path: Path) -> None:
    program = f"import {', '.join(PACKAGES)}\nprint(*(each.__file__ for each in ({', '.join(PACKAGES)})))"
    files = installed.run("python", "-c", program, cwd=tmp_path).stdout.split()
    assert files == [str(installed.site_packages / package / "__init__.py") for package in PACKAGES]


@pytest.mark.parametrize(
    "command",
    [
        "edge-agent --help",
        "edge-agent generate --help",
        "edge-agent bundle --help",
        "edge-agent doctor --help",
        "edge-agent pull --help",
        "edge-agent export --help",
        "cloud-worker --help",
        "cloud-worker run --help",
        "cloud-worker status --help",
        "python -m evaluation --help",
    ],
)
def test_help_is_there(command: str, installed: Installed, tmp_path: Path) -> None:
    done = installed.run(*command.split(), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def test_the_agent_answers_with_the_demo_model(installed: Installed, tmp_path: Path) -> None:
    done = installed.run(
        "edge-agent", "generate", "-", "--lines", "--json", *LOCAL, cwd=tmp_path, stdin="turn on the light\n"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_tokens"] == 4


def test_the_worker_names_the_broker_that_it_does_not_find(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("cloud-worker", "status", "--broker", "mqtt://127.0.0.1:9", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no broker at 127.0.0.1:9" in done.stderr


def test_the_fleet_is_simulated_with_the_packaged_inputs(installed: Installed, tmp_path: Path) -> None:
    flags = ("--devices", "10", "--workers", "1", "--answers", "20")
    done = installed.run("python", "-m", "evaluation", "fleet", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("10 devices on 1 worker")


@pytest.mark.slow
def test_research_writes_into_the_current_folder_alone(installed: Installed, tmp_path: Path) -> None:
    def packaged() -> dict[Path, bytes]:
        files = installed.site_packages.rglob("*")
        return {path: path.read_bytes() for path in files if path.is_file() and path.suffix != ".pyc"}

    before = packaged()
    done = installed.run("python", "-c", ALL_IN_ONE, json.dumps(RESEARCH), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = {"calibration.json", "calibration/calibration.md", "quality/quality.md", "results/bytes.md"}
    assert all((tmp_path / name).is_file() for name in written)
    assert packaged() == before


@pytest.mark.slow
def test_an_exported_model_answers(installed: Installed, tmp_path: Path) -> None:
    target = str(installed.site_packages / "cloud_worker" / "demo_model")
    done = installed.run("edge-agent", "export", target, "draft", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = installed.run("edge-agent", "generate", "hello", "--model", "draft", *LOCAL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_risk_is_measured_with_a_broker_and_a_worker(installed: Installed, tmp_path: Path) -> None:
    done = installed.run(
        "python", "-m", "evaluation", "risk", "--num", "1", "--epsilon", "0.05", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "risk.md").is_file()


@pytest.mark.slow
def test_the_demo_shows_every_scheme(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("python", "-m", "evaluation.demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "coupled" in done.stdout
