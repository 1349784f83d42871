"""The public face of the agent: what an app imports, what that loads, and what a type checker sees of it."""

import ast
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import edge_agent
from edge_agent import errors
from tests.repository.test_import_rules import HEAVY, loaded_by

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
CONNECTING = ("aiomqtt", "paho", "asyncio", "ssl", "cbor2", "tokenizers", "jinja2")

APP = """
import asyncio

from edge_agent import AgentConfig, AgentError, EdgeAgent, Report, Retraction, Tentative, Token


async def main() -> str:
    shown = ""
    try:
        config = AgentConfig(broker="mqtt://broker", scheme="lossless", max_tokens=64)
        async with EdgeAgent.open(config) as agent:
            generation = agent.generate("turn on the light", seed=7)
            async for token in generation:
                shown += token.text
            async for event in agent.generate([{"role": "user", "content": "stop"}]).events():
                match event:
                    case Token(text, _, fate):
                        shown += f"{text} {fate}"
                    case Tentative(text):
                        shown += text
                    case Retraction(_, num_tokens):
                        shown = shown[:-num_tokens]
            report = Report.of(generation)
            return generation.failure or f"{shown} {report.num_tokens}"
    except AgentError as error:
        return str(error)


print(asyncio.run(main()))
"""


def python_in(path: Path) -> str:
    """The program, or the Python blocks of a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def imports_from(program: str) -> list[tuple[str, str]]:
    """The modules of edge_agent that a program imports from, each with a name it takes."""
    nodes = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.ImportFrom)]
    pairs = [(node.module or "", alias.name) for node in nodes for alias in node.names]
    return [pair for pair in pairs if pair[0].partition(".")[0] == "edge_agent"]


documents = pytest.mark.parametrize("path", [*PAGES, *EXAMPLES], ids=lambda path: path.name)


# -- documents and examples ------------------------------------------------------------------------------


@documents
def test_documents_and_examples_import_public_names_from_the_face(path: Path) -> None:
    for module, name in imports_from(python_in(path)):
        is_public = name in edge_agent.__all__
        assert is_public == (module == "edge_agent"), f"from {module} import {name}"


def test_the_first_example_of_the_integration_guide_uses_the_face() -> None:
    imports = imports_from(python_in(ROOT / "docs/integrating.md"))
    assert {("edge_agent", "EdgeAgent"), ("edge_agent", "AgentConfig")} <= set(imports)


# -- the names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", edge_agent.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(edge_agent, name) is not None
    assert name in dir(edge_agent)


def test_a_name_that_is_not_public_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = edge_agent.Nonsense  # pyright: ignore[reportAttributeAccessIssue]


def test_sub_modules_can_still_be_imported_from_the_package() -> None:
    assert import_module("edge_agent.errors") is errors


def test_a_type_checker_is_shown_exactly_the_public_names() -> None:
    tree = ast.parse((ROOT / "edge_agent/__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    shown = {alias.name: node.module for node in imports for alias in node.names}
    assert sorted(shown) == sorted(edge_agent.__all__)
    for name, module in shown.items():
        assert getattr(edge_agent, name) is getattr(import_module(str(module)), name)


def test_every_error_of_the_agent_is_public_and_an_agent_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for kind in kinds:
        if issubclass(kind, Exception):
            assert issubclass(kind, edge_agent.AgentError)
            assert kind.__name__ in edge_agent.__all__


# -- what it loads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "not_loaded"),
    [
        ("import edge_agent", {*HEAVY, *CONNECTING, "numpy", "argparse"}),
        ("from edge_agent import AgentError", {*HEAVY, *CONNECTING, "numpy", "argparse"}),
        ("from edge_agent import AgentConfig; AgentConfig()", {*HEAVY, *CONNECTING}),
        ("from edge_agent import Token", {*HEAVY, "aiomqtt", "paho"}),
    ],
)
def test_a_public_name_loads_no_more_than_it_needs(program: str, not_loaded: set[str]) -> None:
    assert loaded_by(program) & not_loaded == set()


def test_the_agent_itself_brings_its_libraries() -> None:
    assert {"onnxruntime", "aiomqtt"} <= loaded_by("from edge_agent import EdgeAgent")


# -- types -----------------------------------------------------------------------------------------------


def type_errors(folder: Path, *files: Path) -> list[str]:
    """What basedpyright, in strict mode, finds in the files of an app that uses this project."""
    settings = {
        "include": [str(file) for file in files],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--project", str(folder), "--outputjson"]
    command += ["--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [each["message"] for each in json.loads(done.stdout)["generalDiagnostics"]]


def test_an_app_and_the_examples_are_typed_strictly(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP)
    assert type_errors(tmp_path, app, *EXAMPLES) == []


def test_a_name_that_is_not_public_is_a_type_error(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text("from edge_agent import Nonsense\n\nprint(Nonsense)\n")
    assert any("Nonsense" in message for message in type_errors(tmp_path, app))


@pytest.mark.parametrize("package", ["common", "edge_agent", "cloud_worker", "evaluation"])
def test_every_package_tells_type_checkers_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
