"""The documents say what the code says: settings, schemes, links, folders, and tests that they name."""

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
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")]
)
WORDS_FOR_NO_DEFAULT = ("none", "random", "chosen", "measured", "the ")  # "the model's", "the scheme's" ...


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


def own(kind: type[BrokerConfig]) -> list[dataclasses.Field[Any]]:
    shared = {field.name for field in dataclasses.fields(BrokerConfig)}
    return [field for field in dataclasses.fields(kind) if kind is BrokerConfig or field.name not in shared]


@pytest.mark.parametrize(
    ("kind", "heading"),
    [
        (BrokerConfig, "### The broker (agents and workers alike)"),
        (WorkerConfig, "### Workers"),
        (AgentConfig, "### Agents"),
    ],
)
def test_every_setting_is_in_its_table_with_its_default(kind: type[BrokerConfig], heading: str) -> None:
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
    readme = table(page("README.md"), "**Schemes**")
    assert list(method) == list(SCHEMES)
    assert [name.split("`")[0] for name in readme] == list(SCHEMES)
    for scheme in SCHEMES.values():
        if scheme.threshold < 1:
            assert f"{scheme.threshold:g}" in method[scheme.name][1], scheme.name


def test_every_field_of_a_report_and_every_fate_is_explained() -> None:
    text = page("docs/integrating.md")
    for name in [field.name for field in dataclasses.fields(Report)] + list(Fate):
        assert f"`{name}`" in text, name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
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


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_tests_that_a_page_names_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    folders = "|".join(
        ("common", "edge_agent", "cloud_worker", "evaluation", "mosquitto", "tests", "docs", "examples")
    )
    for name in re.findall(rf"`((?:{folders})/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name
    tests = "".join(test.read_text(encoding="utf-8") for test in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in tests, name


def test_the_map_of_the_house_is_complete() -> None:
    house = table(page("README.md"), "## The house")
    assert [name for name in house if not (ROOT / name).is_dir()] == []
    tracked = {
        path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "build"))
    }
    packages = {name for name in tracked if any((ROOT / name).glob("*.*")) and not name.endswith(".egg-info")}
    assert packages - {name.split("/")[0] for name in house} == set()


def test_every_document_is_on_the_first_page() -> None:
    text = page("README.md")
    for path in (ROOT / "docs").iterdir():
        assert not path.is_file() or f"docs/{path.name}" in text, path.name


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(page("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    required = [*project["dependencies"], *extras["edge"], *extras["cloud"], *extras["export"]]
    names = {re.split(r"[<>=\[]", line)[0] for line in required} - {"hybrid-lm"}
    reasons = " ".join(table(page("README.md"), "## Dependencies"))
    assert [name for name in sorted(names) if name not in reasons] == []
