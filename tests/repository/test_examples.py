"""The examples: settings files that the real loader takes, programs that run."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from cloud_worker.config import ENV_PREFIX as WORKER_PREFIX
from cloud_worker.config import WorkerConfig
from common.process.settings import load
from edge_agent.config import ENV_PREFIX as AGENT_PREFIX
from edge_agent.config import AgentConfig
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.small_models import FolderOf

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture(autouse=True)
def no_settings_of_the_developers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested is the files and flags here."""
    for name in list(os.environ):
        if name.startswith((AGENT_PREFIX, WORKER_PREFIX)):
            monkeypatch.delenv(name)


def run(*command: str, prompts: str = "") -> str:
    """Standard output of a program that must succeed; the commands of this environment come first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=prompts, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def uncommented(name: str, folder: Path) -> str:
    """An example file with its commented settings in force as well."""
    lines = (EXAMPLES / name).read_text().splitlines()
    is_setting = [line.startswith("# ") and " = " in line for line in lines]
    given = [line.removeprefix("# ") for line, wanted in zip(lines, is_setting, strict=True) if wanted]
    keys = {line.split(" = ")[0] for line in given}
    kept = [line for line in lines if line.split(" = ")[0] not in keys]
    path = folder / name
    path.write_text("\n".join([*kept, *given]))
    return str(path)


def test_the_agents_file_is_valid(tmp_path: Path) -> None:
    config = load(AgentConfig, Namespace(config=str(EXAMPLES / "agent.toml")), AGENT_PREFIX)
    assert (config.device, config.stop) == ("kitchen-tablet", ("\n\n",))
    secured = load(AgentConfig, Namespace(config=uncommented("agent.toml", tmp_path)), AGENT_PREFIX)
    assert secured.broker.startswith("mqtts://")


def test_the_workers_file_is_valid(tmp_path: Path) -> None:
    config = load(WorkerConfig, Namespace(config=str(EXAMPLES / "worker.toml")), WORKER_PREFIX)
    assert (config.worker, config.max_sessions_per_device) == ("worker-1", 4)
    secured = load(WorkerConfig, Namespace(config=uncommented("worker.toml", tmp_path)), WORKER_PREFIX)
    assert secured.broker.startswith("mqtts://")


def test_the_python_example_streams_an_answer(draft_folder: FolderOf) -> None:
    flags = ["--scheme", "slm", "--max-tokens", "8", "--model", str(draft_folder("llama"))]
    output = run(sys.executable, "examples/python_api.py", "turn on the light", *flags)
    assert "8 tokens (8 local)" in output


def test_the_example_of_structured_output_prints_what_it_parsed() -> None:
    output = run(
        sys.executable,
        "examples/structured.py",
        "turn on the kitchen light",
        "--scheme",
        "slm",
        "--seed",
        "1",
    )
    assert output == "on: light in kitchen\n"


def test_the_pipe_answers_every_line(draft_folder: FolderOf) -> None:
    flags = ["--scheme", "slm", "--max-tokens", "4", "--stop", "\n", "--model", str(draft_folder("llama"))]
    output = run("sh", "examples/json_pipe.sh", *flags, prompts="turn on the light\nclose the window\n")
    assert len(output.splitlines()) == 2


def test_the_tentative_example_ends_with_the_answer_alone(
    broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf
) -> None:
    flags = ["--broker", broker.url, "--model", str(draft_folder("llama")), "--max-tokens", "24"]
    flags += ["--temperature", "1", "--seed", "7"]
    with LocalWorker(broker.url, "--model", str(family_folder("llama"))):
        output = run(sys.executable, "examples/tentative.py", "turn on the light", *flags)
        events = run(
            sys.executable, "-m", "edge_agent", "generate", "turn on the light", "--json-events", *flags
        )
    *objects, report = [json.loads(line) for line in events.splitlines()]
    assert {one["event"] for one in objects} == {"token", "tentative", "retraction"}
    assert "".join(one["text"] for one in objects if one["event"] == "token") == report["text"]
    assert output.splitlines()[-1] == f"{report['text']!r} []"


def test_the_comparison_shows_every_scheme(
    broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf
) -> None:
    flags = ["--broker", broker.url, "--model", str(draft_folder("llama")), "--max-tokens", "12"]
    flags += ["--temperature", "1", "--seed", "7"]
    with LocalWorker(broker.url, "--model", str(family_folder("llama"))):
        output = run(sys.executable, "examples/compare_schemes.py", "turn on the light", *flags)
    rows = {line.split()[0]: line for line in output.splitlines()[1:]}
    assert list(rows) == ["slm", "llm", "hlm", "u-hlm", "opportunistic", "lossless", "coupled"]
    texts = {scheme: row.partition("   '")[2] for scheme, row in rows.items()}
    assert texts["llm"] == texts["coupled"]


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir() if path.is_file()))
def test_every_example_is_mentioned_in_the_documents(name: str) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert any(f"examples/{name}" in page.read_text() for page in pages) or name == "compare_schemes.py"
