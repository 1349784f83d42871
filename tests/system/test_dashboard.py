"""deploy/grafana and the alerts ask for metrics that there are, and Prometheus answers each question.

Grafana itself is in no package registry, so the dashboard's JSON is only read here, not shown.
"""

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from evaluation.local.broker import LocalBroker, free_port
from evaluation.local.worker import LocalWorker
from tests.support.exposed_metrics import Labels, exposed

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
ALERTS = DEPLOY / "compose" / "alerts.yaml"
GIVEN = {"$__rate_interval": "20s", "$worker": ".*", "$device": ".*"}  # what Grafana puts in

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="prometheus is not installed")


def panels() -> list[dict[str, Any]]:
    return [one for one in json.loads(DASHBOARD.read_text())["panels"] if one["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Each expression of the dashboard with what its legend shows."""
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return group["rules"]


def check(expression: str, legend: str, metrics: Mapping[str, Labels]) -> None:
    known = {"instance"}
    names: list[str] = re.findall(r"\b(?:hlm|process)_\w+", expression)
    assert names, expression
    for name in names:
        assert name in metrics, name
        known |= set(metrics[name])
    for name, selector in re.findall(r"\b((?:hlm|process)_\w+)\{([^}]*)\}", expression):
        for label, relation, values in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', selector):
            if label != "instance":
                assert set(values.split("|") if "~" in relation else [values]) <= metrics[name][label], name
    grouped = {
        name
        for group in re.findall(r"(?:by|on|group_left) \(([^)]*)\)", expression)
        for name in group.split(", ")
    }
    assert grouped <= known, expression
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= grouped, legend


def test_the_dashboard_asks_for_metrics_and_labels_that_there_are() -> None:
    metrics = exposed()
    for expression, legend in queries():
        check(expression, legend, metrics)
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"][1:]:
        assert variable["query"]["query"].removeprefix("label_values(").split(",")[0] in metrics


def test_panels_have_their_own_ids_and_places() -> None:
    ids = [one["id"] for one in panels()]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for at in (one["gridPos"] for one in panels()):
        squares = {
            (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
        }
        assert not squares & taken
        assert at["x"] + at["w"] <= 24
        taken |= squares
    assert all(one["description"] for one in panels())


def test_the_alerts_are_those_of_the_document() -> None:
    text = (DEPLOY.parent / "docs" / "watching.md").read_text().partition("### Worth an alert")[2]
    rows = [line.split(" | ") for line in text.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    documented = {row[0].strip("| ").split("`")[1].replace("\\|", "|"): row[1] for row in rows}
    metrics = exposed()
    for rule in rules():
        check(rule["expr"], "", metrics)
        plain = re.sub(r"\((sum\(\w+\)) or vector\(0\)\)", r"\1", rule["expr"])
        assert documented.pop(plain) == ("at once" if "for" not in rule else rule["for"].replace("m", " min"))
    assert documented == {}


def test_compose_brings_up_prometheus_and_grafana_with_the_dashboard() -> None:
    services = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]
    mounts: dict[str, Path] = {}
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["watch"]
        assert all(
            port.startswith("127.0.0.1:") for port in services[name]["ports"]
        )  # they ask for no password
        for source, inside, *_ in (volume.split(":") for volume in services[name]["volumes"]):
            if source.startswith("."):
                mounts[inside] = (DEPLOY / "compose" / source).resolve()
    assert all(path.is_file() for path in mounts.values())
    (source,) = yaml.safe_load(mounts["/etc/grafana/provisioning/datasources/datasource.yaml"].read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load(mounts["/etc/grafana/provisioning/dashboards/provider.yaml"].read_text())[
        "providers"
    ]
    assert mounts[f"{provider['options']['path']}/dashboard.json"] == DASHBOARD
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert mounts[home] == DASHBOARD
    scrapes = yaml.safe_load(mounts["/etc/prometheus/prometheus.yml"].read_text())["scrape_configs"]
    assert scrapes[0]["dns_sd_configs"][0]["names"][0] in services
    assert scrapes[0]["dns_sd_configs"][0]["port"] == 9100  # as the image serves it


@needs_promtool
def test_prometheus_takes_configuration_alerts_and_queries(tmp_path: Path) -> None:
    asked = [
        {"record": f"query_{n}", "expr": filled(expression)} for n, (expression, _) in enumerate(queries())
    ]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": asked}]}))
    for command in (
        ["check", "config", str(DEPLOY / "compose" / "prometheus.yaml")],
        ["check", "rules", str(tmp_path / "queries.yaml")],
    ):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def filled(expression: str) -> str:
    for name, value in GIVEN.items():
        expression = expression.replace(name, value)
    return expression


# -- a real Prometheus --------------------------------------------------------------------------------


def ask(port: int, query: str) -> list[dict[str, Any]]:
    """The values that Prometheus gives for an expression now."""
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.loads(answer.read())["data"]["result"]
    except OSError:
        return []  # it starts
    return [one for one in found if one["value"][1] != "NaN"]


@contextlib.contextmanager
def prometheus(folder: Path, targets: Mapping[str, int]) -> Generator[int]:
    """One that scrapes each port every second; its own port."""
    port = free_port()
    jobs = [
        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
        for job, target in targets.items()
    ]
    settings = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.terminate()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_prometheus_has_data_for_every_panel(tmp_path: Path) -> None:
    async def answer_until(has_all: Callable[[], set[str]]) -> set[str]:
        config = AgentConfig(
            broker=broker.url, scheme="opportunistic", audit=0.5, max_tokens=20, metrics_port=agent_port
        )
        async with EdgeAgent.open(config) as agent:
            end = time.monotonic() + 60
            while (missing := await asyncio.to_thread(has_all)) and time.monotonic() < end:
                async for _ in agent.generate("turn on the kitchen light"):
                    pass
        return missing

    def without_data() -> set[str]:
        return {expression for expression, _ in queries() if not ask(port, filled(expression))}

    worker_port, agent_port = free_port(), free_port()
    with (
        LocalBroker() as broker,
        LocalWorker(broker.url, "--model", "demo", "--metrics-port", str(worker_port)),
        prometheus(tmp_path, {"workers": worker_port, "agents": agent_port}) as port,
    ):
        assert asyncio.run(answer_until(without_data)) == set()
