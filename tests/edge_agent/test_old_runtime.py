"""A runtime that is too old for a graph is called so."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from edge_agent.draft_model import onnx_session
from edge_agent.draft_model.onnx_session import OLDEST, REFUSES_LINKS, OnnxSession
from edge_agent.errors import ModelError

ERRORS = [  # of ONNX Runtime 1.20.1, 1.22.1 and of older ones
    "[ONNXRuntimeError] : 1 : FAIL : ONNX Runtime only *guarantees* support for models stamped with official "
    "released onnx opset versions. Opset 22 is under development and support for this is limited.",
    "[ONNXRuntimeError] : 10 : INVALID_GRAPH : This is an invalid model. Error Node with schema("
    "com.microsoft::GroupQueryAttention:1) has input size 12 not in range [min=7, max=11].",
    "[ONNXRuntimeError] : 1 : FAIL : Unsupported model IR version: 14, max supported IR version: 10",
    "[ONNXRuntimeError] : 10 : INVALID_GRAPH : MatMulNBits(-1) is not a registered function/op",
    "Fatal error: com.microsoft:MatMulNBits(-1) is not a registered function/op",
]


def refuse(monkeypatch: pytest.MonkeyPatch, message: str, version: str) -> str:
    """What a user reads when ONNX Runtime of a version raises an error with this message."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(onnx_session.ort, "InferenceSession", fail)
    monkeypatch.setattr(onnx_session.ort, "__version__", version)
    with pytest.raises(ModelError) as caught:
        OnnxSession.open(Path("model.onnx"), num_threads=1, providers=())
    return str(caught.value)


@pytest.mark.parametrize("message", ERRORS)
def test_a_runtime_that_is_too_old_for_a_graph_is_called_so(
    monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    shown = refuse(monkeypatch, message, "1.22.1")
    assert shown.startswith("ONNX Runtime 1.22.1 is too old for model.onnx: install 1.23.2 or newer")


def test_a_runtime_that_refuses_links_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "External data path for initializer escapes model directory"
    assert "refuses weights behind links" in refuse(monkeypatch, message, "1.24.1")
    assert "missing or cut short" in refuse(monkeypatch, message, "1.24.2")


def test_the_bounds_of_the_package_are_those_of_the_messages() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    wanted = f"onnxruntime>={OLDEST}" + "".join(f",!={version}" for version in REFUSES_LINKS)
    extras = project["optional-dependencies"]
    found = [line for line in extras["edge"] if re.match(r"onnxruntime[>=<]", line)]
    assert found == [wanted]


@pytest.mark.parametrize(
    ("file", "extras", "left_out"),
    [
        ("lowest-edge.txt", ("edge",), set[str]()),
        # transformers 5.0 needs newer ones
        ("lowest-eval.txt", ("edge", "cloud", "eval"), {"tokenizers", "huggingface_hub"}),
        ("lowest-export.txt", ("export",), {"numpy", "cbor2", "aiomqtt", "paho-mqtt", "tokenizers"}),
    ],
)
def test_the_lowest_versions_that_are_tried_are_those_of_the_package(
    file: str, extras: tuple[str, ...], left_out: set[str]
) -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for name in extras for one in optional(project, name))]
    lowest = dict(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(wanted), re.MULTILINE))
    if "torch" in lowest:
        lowest["torch"] = "2.13"  # the only release at hand
    lines = (root / "deploy" / file).read_text().splitlines()
    tried = dict(line.split("==") for line in lines if "==" in line)
    assert tried.keys() == lowest.keys() - left_out
    for name, version in tried.items():
        assert re.sub(r"(\.0)+$", "", version) == re.sub(r"(\.0)+$", "", lowest[name])


def optional(project: dict[str, Any], extra: str) -> list[str]:
    return project["optional-dependencies"][extra]
