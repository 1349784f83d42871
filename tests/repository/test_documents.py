"""The documents agree with the code: settings, schemes, links, layout, dependencies, named files, tests."""

import ast
import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cloud_worker.config import WorkerConfig
from common.process.broker_config import BrokerConfig
from edge_agent.config import AgentConfig
from edge_agent.policy.schemes import SCHEMES
from edge_agent.report import Report
from edge_agent.session.transcript import Fate

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")])
CODE = ("common", "edge_agent", "cloud_worker", "evaluation")
FOLDERS = (*CODE, "mosquitto", "deploy", "benchmarks", "tests", "docs", "examples")
WORDS_FOR_NO_DEFAULT = ("none", "random", "chosen", "measured", "the ")  # "the model's", "the scheme's" ...

every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def table(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of the first table under a heading, by the name in their first cell."""
    section = re.split(r"^#+ ", text.partition(heading)[2], maxsplit=1, flags=re.MULTILINE)[0]
    first = "|" + section.partition("\n|")[2].partition("\n\n")[0]
    rows = [line.strip("|").split("|") for line in first.splitlines()]
    return {row[0].strip().strip("`"): [cell.strip().strip("`") for cell in row[1:]] for row in rows[2:]}


def anchors(text: str) -> set[str]:
    """The anchors that a page's headings make, as GitHub does."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named_paths(text: str) -> list[str]:
    """The files and folders of this repository that a page names in backticks."""
    return re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`", text)


def texts_of_the_programs() -> str:
    """Every string in the code, an f-string as its fixed parts."""
    files = [path for name in CODE for path in (ROOT / name).rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    return "\n".join(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))


def own(kind: type[Any]) -> list[dataclasses.Field[Any]]:
    """The fields of a config, without those that agents and workers share."""
    shared = {field.name for field in dataclasses.fields(BrokerConfig)}
    return [field for field in dataclasses.fields(kind) if kind is BrokerConfig or field.name not in shared]


# -- what the code has is in the documents --------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "heading"),
    [
        (BrokerConfig, "### The broker (agents and workers alike)"),
        (WorkerConfig, "### Workers"),
        (AgentConfig, "### Agents"),
    ],
)
def test_every_setting_is_in_its_table_with_its_default(kind: type[Any], heading: str) -> None:
    rows = table(page("docs/operating.md"), heading)
    assert list(rows) == [field.name for field in own(kind)]
    for field in own(kind):
        shown = rows[field.name][0]
        if field.default in (None, (), ""):
            assert shown.startswith(WORDS_FOR_NO_DEFAULT), field.name
        else:
            value = str(field.default).lower() if isinstance(field.default, bool) else field.default
            assert shown == (f"{value:g}" if isinstance(value, float) else str(value)), field.name


def test_every_choice_of_a_setting_is_named() -> None:
    text = page("docs/operating.md") + page("docs/method.md")
    for kind in (AgentConfig, WorkerConfig):
        for field in dataclasses.fields(kind):
            for choice in field.metadata["choices"]:
                assert f"`{choice}`" in text, f"{field.name}: {choice}"


def test_every_scheme_is_described_with_its_threshold() -> None:
    method = table(page("docs/method.md"), "## 2. The schemes")
    overview = table(page("docs/operating.md"), "## Schemes")
    assert list(method) == list(SCHEMES)
    assert [name.split("`")[0] for name in overview] == list(SCHEMES)
    for scheme in SCHEMES.values():
        if scheme.threshold < 1:
            assert f"{scheme.threshold:g}" in method[scheme.name][1], scheme.name


def test_every_message_that_is_explained_is_one_of_the_programs() -> None:
    messages = page("docs/operating.md").partition("## What messages mean")[2]
    quotes = [
        quote
        for cell in re.findall(r"^\| (`.*?) \|", messages, re.MULTILINE)
        for quote in cell.split("`")[1::2]
    ]
    texts = texts_of_the_programs()
    assert len(quotes) > 40
    for quote in quotes:  # what varies splits it, and so does where one text is put into another
        for part in re.split(r"<[^>]*>|\.\.\.|[:;] ", quote):
            assert part.strip() in texts, quote


def test_every_field_of_a_report_and_every_fate_is_explained() -> None:
    text = page("docs/integrating.md")
    for name in [field.name for field in dataclasses.fields(Report)] + list(Fate):
        assert f"`{name}`" in text, name


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(page("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    required = [
        *project["dependencies"],
        *extras["edge"],
        *extras["cloud"],
        *extras["export"],
        *extras["eval"],
    ]
    names = {re.split(r"[<>=\[]", line)[0] for line in required} - {"hybrid-lm"}
    reasons = " ".join(table(page("CONTRIBUTING.md"), "## Dependencies"))
    assert [name for name in sorted(names) if name not in reasons] == []


def test_the_project_layout_is_complete() -> None:
    layout = table(page("docs/architecture.md"), "## Project layout")
    assert [name for name in layout if not (ROOT / name).is_dir()] == []
    top = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "build"))}
    kept = {name for name in top if any((ROOT / name).glob("*.*")) and not name.endswith(".egg-info")}
    packages = {
        str(path.parent.relative_to(ROOT)) for name in CODE for path in (ROOT / name).glob("*/__init__.py")
    }
    assert {f"{name}/" for name in kept | packages} - set(layout) == set()


# -- what the documents name exists -----------------------------------------------------------------------


@every_page
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@every_page
def test_files_and_tests_that_a_page_names_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in named_paths(text):
        assert (ROOT / name).exists(), name
    tests = "".join(test.read_text(encoding="utf-8") for test in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in tests, name


def test_the_floor_plan_for_contributors_names_every_package_of_both_ends() -> None:
    floor_plan = page("CONTRIBUTING.md").partition("## Floor plan")[2].partition("\n## ")[0]
    named = set(named_paths(floor_plan))
    packages = {
        f"{path.parent.relative_to(ROOT)}/"
        for name in ("common", "edge_agent", "cloud_worker")
        for path in (ROOT / name).glob("*/__init__.py")
    }
    assert packages - named == set()
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_commands_for_contributors_are_those_of_the_makefile() -> None:
    targets = re.findall(r"^([a-z0-9-]+):", page("Makefile"), re.MULTILINE)
    commands = table(page("CONTRIBUTING.md"), "## Commands")
    assert set(commands) == {f"make {target}" for target in targets}


def test_every_document_is_on_the_first_page() -> None:
    text = page("README.md")
    for path in (ROOT / "docs").iterdir():
        assert not path.is_file() or f"docs/{path.name}" in text, path.name
    assert "CONTRIBUTING.md" in text


@every_page
def test_python_in_a_page_compiles(path: Path) -> None:
    for block in re.findall(
        r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        ast.parse(block)
