"""`edge-agent pull` from a stand-in for the hub, and `edge-agent bundle`, with the real commands."""

import hashlib
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.__main__ import main
from edge_agent.draft_model.files import DEMO_FOLDER
from edge_agent.draft_model.pulling import HubFile
from evaluation.local.broker import free_port
from tests.support.distribution import ROOT, build, copy_repository
from tests.support.hub import StandInHub

NAME = "someone/model"
GRAPH = "model.onnx"
WEIGHTS = f"{GRAPH}.data"
CHUNK = (
    10 * 1024 * 1024
)  # bytes: huggingface_hub writes no less, so an attempt continues after a whole number


@pytest.fixture
def hub() -> Iterator[StandInHub]:
    files = {path.name: path.read_bytes() for path in DEMO_FOLDER.iterdir() if path.is_file()}
    with StandInHub(
        NAME,
        {**files, WEIGHTS: bytes(3 * CHUNK), "README.md": b"not needed", "onnx/model_fp16.onnx": b"another"},
    ) as hub:
        yield hub


def environment(hub_url: str, home: Path) -> dict[str, str]:
    """No settings but these: a hub of our own, an empty cache."""
    names = {"HF_ENDPOINT": hub_url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return os.environ | names


def pulling(hub_url: str, home: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edge_agent", "pull", NAME, *flags]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment(hub_url, home))


def pull(hub_url: str, home: Path, *flags: str) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    process = pulling(hub_url, home, *flags)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def test_a_model_is_pulled_and_then_found_without_the_hub(hub: StandInHub, tmp_path: Path) -> None:
    code, output, errors = pull(hub.url, tmp_path)
    assert code == 0, errors
    folder = Path(output.strip())
    assert (folder / GRAPH).read_bytes() == hub.files[GRAPH]
    assert {path.name for path in folder.iterdir()} == {
        WEIGHTS,
        *(path.name for path in DEMO_FOLDER.iterdir()),
    }
    offline = environment("http://127.0.0.1:9", tmp_path) | {"HF_HUB_OFFLINE": "1"}
    answer = ["generate", "hello", "--scheme", "slm", "--max-tokens", "2", "--quiet", "--model", NAME]
    done = subprocess.run([sys.executable, "-m", "edge_agent", *answer], env=offline, check=False)
    assert done.returncode == 0


def test_a_line_that_breaks_is_continued_where_it_broke(hub: StandInHub, tmp_path: Path) -> None:
    hub.cut = {WEIGHTS}
    code, output, errors = pull(hub.url, tmp_path, "--to", str(tmp_path / "model"))
    assert code == 0, errors
    assert (Path(output.strip()) / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert [asked for file, asked in hub.asked if file == WEIGHTS] == [None, f"bytes={CHUNK}-"]


def test_a_killed_pull_is_continued_by_the_next(hub: StandInHub, tmp_path: Path) -> None:
    hub.held = {WEIGHTS}
    process = pulling(hub.url, tmp_path)
    assert hub.is_held.wait(60)
    end = time.monotonic() + 60
    while not any(path.stat().st_size >= CHUNK for path in tmp_path.rglob("*.incomplete")):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    code, output, errors = pull(hub.url, tmp_path)
    assert code == 0, errors
    assert (Path(output.strip()) / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert [asked for file, asked in hub.asked if file == WEIGHTS] == [None, f"bytes={CHUNK}-"]


def test_a_corrupt_file_is_refused_deleted_and_fetched_again(hub: StandInHub, tmp_path: Path) -> None:
    for file in (GRAPH, "tokenizer_config.json"):
        hub.corrupt = {file}
        code, output, errors = pull(hub.url, tmp_path / file)
        assert (code, output) == (1, "")
        assert f"edge-agent: {file} of '{NAME}' does not have the hub's checksum" in errors
    hub.corrupt = set()
    code, output, errors = pull(hub.url, tmp_path / GRAPH)
    assert code == 0, errors
    assert (Path(output.strip()) / GRAPH).read_bytes() == hub.files[GRAPH]


def test_without_a_hub_or_a_graph_it_is_one_line(hub: StandInHub, tmp_path: Path) -> None:
    code, _, errors = pull(f"http://127.0.0.1:{free_port()}", tmp_path)
    assert (code, errors.count("\n")) == (1, 1)
    assert "The hub cannot be reached" in errors
    code, _, errors = pull(hub.url, tmp_path, "--model-file", "other.onnx")
    assert (code, errors.count("\n")) == (1, 1)
    assert "has no file other.onnx" in errors


def test_small_files_are_compared_by_gits_hash(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    assert HubFile(6, None, "ce013625030ba8dba906f756967f9e9ca394464a").is_at(path)
    assert not HubFile(6, None, "0" * 40).is_at(path)
    assert not HubFile(7, None, None).is_at(path)
    assert HubFile(None, hashlib.sha256(b"hello\n").hexdigest(), None).is_at(path)


# -- bundle ---------------------------------------------------------------------------------------------


def bundle(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_agent", "bundle", *flags]
    # without a network: only our own wheel goes in
    environment = os.environ | {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--wheel", "/nowhere.whl"], 2, "there is no wheel /nowhere.whl"),
        (["--model", "/nowhere/model"], 1, "no model folder at /nowhere/model"),
        (["--config", "/nowhere.toml"], 2, "cannot read the config file"),
        (["--python-version", "4"], 2, "is not of the form 3.11"),
    ],
)
def test_a_part_that_is_missing_is_named(
    flags: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bundle", str(tmp_path / "agent.tar"), *flags]) == code
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert message in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_bundle_is_installed_without_a_network(tmp_path: Path) -> None:
    wheel = build(copy_repository(tmp_path / "source"), tmp_path / "dist").wheel
    model = tmp_path / "small"
    model.mkdir()
    for path in DEMO_FOLDER.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    (model / "other.txt").write_text("not needed")
    config = tmp_path / "agent.toml"
    config.write_text('broker = "mqtt://host"\nmodel = "elsewhere"\nscheme = "slm"\n')
    out, root = tmp_path / "agent.tar", tmp_path / "root"
    root.mkdir()
    version = "{}.{}".format(*sys.version_info)
    flags = ("--machine", os.uname().machine, "--python-version", version)
    done = bundle(str(out), "--wheel", str(wheel), "--model", str(model), "--config", str(config), *flags)
    assert (done.returncode, done.stdout) == (0, f"{out}\n"), done.stderr
    with tarfile.open(out) as archive:
        names = set(archive.getnames())
        script = archive.extractfile("install-agent")
        assert script is not None
        assert script.read() == (ROOT / "deploy" / "install-agent").read_bytes()
    assert {"SHA256SUMS", "machine", "agent.toml", f"models/small/{GRAPH}"} <= names
    assert "models/small/other.txt" not in names

    packages = os.pathsep.join(
        one for one in sys.path if Path(one).name in ("site-packages", "dist-packages")
    )
    command = ["sh", str(ROOT / "deploy" / "install-agent"), "--root", str(root), "--from", str(out)]
    done = subprocess.run(
        [*command, "--python", sys.executable],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": packages},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    settings = (root / "etc/hybrid-lm/agent.toml").read_text()
    assert settings == 'model = "/var/lib/hybrid-lm/models/small"\nbroker = "mqtt://host"\nscheme = "slm"\n'
    installed = root / "var/lib/hybrid-lm/models/small"
    assert (installed / GRAPH).read_bytes() == (DEMO_FOLDER / GRAPH).read_bytes()
    subprocess.run([*command[:4], "--uninstall", "--purge"], check=True)
    assert not (root / "var/lib/hybrid-lm").exists()
