"""Law 6: a device needs no torch, a worker no ONNX Runtime, and `--help` neither.

What may import what is checked by the contracts in pyproject.toml (`lint-imports`); here: what is loaded.
"""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "onnxruntime", "huggingface_hub", "safetensors")


def loaded_by(program: str) -> set[str]:
    """The top-level packages in a fresh interpreter after `program`."""
    report = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("package", ["edge_agent", "cloud_worker"])
def test_help_loads_no_model_library(package: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", package, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "common" in loaded
    assert not loaded & {*HEAVY, "tokenizers"}


@pytest.mark.parametrize("module", ["edge_agent.agent", "edge_agent.cli.commands", "edge_agent.cli.serve"])
def test_the_agent_loads_neither_torch_nor_transformers(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "transformers", "safetensors", "onnx"}


def test_an_agent_with_a_local_model_loads_no_library_of_the_hub() -> None:
    program = "from edge_agent.agent import EdgeAgent, resolve; resolve('demo')"
    assert not loaded_by(program) & {"huggingface_hub", "httpx", "httpx2", "requests"}


def test_a_worker_loads_torch_for_its_own_engine_only() -> None:
    assert not loaded_by("import cloud_worker.worker") & {"torch", "transformers", "safetensors"}


def test_the_worker_loads_no_onnx_runtime() -> None:
    loaded = loaded_by("import cloud_worker.worker, cloud_worker.target_model")
    assert "torch" in loaded
    assert not loaded & {"onnxruntime", "onnx", "edge_agent"}


def test_the_pure_core_loads_numpy_and_cbor2_at_most() -> None:
    modules = (
        "common.protocol.codec, common.protocol.topics, common.sampling.randomness, "
        "edge_agent.session.session, edge_agent.policy.policy, "
        "cloud_worker.scheduling.scheduler, cloud_worker.passes.page_pool"
    )
    assert not loaded_by(f"import {modules}") & {*HEAVY, "tokenizers", "aiomqtt", "paho", "jinja2"}
