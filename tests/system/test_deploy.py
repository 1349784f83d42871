"""deploy/: what can be checked without a cluster, a Docker daemon or systemd as the first process.

Every setting is loaded by the real settings, every unit read by systemd-analyze, both brokers are started,
and what refers to what in the manifests is compared. test_kubernetes.py renders their variants. Images are
not built.
"""

import asyncio
import contextlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud_worker.config import WorkerConfig
from cloud_worker.monitoring.health import PATHS
from common.link import Link, LinkError, LinkSettings
from common.process.settings import CommandLine, add_flags, load
from edge_agent.cli.command_line import _parser as agent_parser  # pyright: ignore[reportPrivateUsage]
from edge_agent.config import AgentConfig
from evaluation.local.broker import LocalBroker, free_port, mosquitto_path
from tests.support.exposed_metrics import exposed
from tests.support.small_models import FolderOf

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("hlm-*"))
DRAINING = 10  # seconds that a stopping worker takes at most
OUTSIDE = {"mosquitto-tls", "mosquitto-accounts"}  # secrets that deploy/README.md tells how to make
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLOUD_WORKER_CONFIG", "EDGE_AGENT_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def worker_config(arguments: list[str]) -> WorkerConfig:
    parser = CommandLine(prog="cloud-worker")
    add_flags(parser, WorkerConfig, "CLOUD_WORKER_")
    return load(WorkerConfig, parser.parse_args(arguments), "CLOUD_WORKER_")


def set_all(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, object]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


# -- systemd ------------------------------------------------------------------------------------------


def unit(name: str) -> dict[str, list[str]]:
    """key -> values of all sections."""
    values: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / name).read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


def command_of(name: str) -> list[str]:
    """ExecStart as systemd would run it, with the example settings."""
    (line,) = unit(name)["ExecStart"]
    kind = "worker" if "worker" in name else "agent"
    line = line.replace(f"/etc/hybrid-lm/{kind}.toml", str(ROOT / "examples" / f"{kind}.toml"))
    return shlex.split(line.replace("%i", "one").replace("%d", "/credentials"))


def test_the_units_name_settings_that_there_are() -> None:
    program, command, *arguments = command_of("hlm-worker@.service")
    config = worker_config(arguments)
    assert (Path(program).name, command) == ("cloud-worker", "run")
    assert (config.worker, config.username, config.password_file) == ("one", "one", "/credentials/password")
    program, *arguments = command_of("hlm-agent@.service")
    assert Path(program).name == "edge-agent"
    agent = load(AgentConfig, agent_parser().parse_args(arguments), "EDGE_AGENT_")
    assert agent.password_file == "/credentials/password"
    program, *arguments = command_of("hlm-agent-serve.service")
    agent = load(AgentConfig, agent_parser().parse_args(arguments), "EDGE_AGENT_")
    assert (arguments[0], agent.password_file) == ("serve", "/credentials/password")


@pytest.mark.parametrize("name", [path.name for path in UNITS if path.suffix == ".service"])
def test_a_service_has_no_rights_and_time_to_stop(name: str) -> None:
    values = unit(name)
    for key, value in {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "KillSignal": "SIGTERM",
    }.items():
        assert values[key] == [value]
    assert values["LoadCredential"][0].startswith("password:/etc/hybrid-lm/")
    assert "--password-file %d/password" in values["ExecStart"][0]
    if "worker" in name:
        assert values["Restart"] == ["on-failure"]
        assert int(values["TimeoutStopSec"][0]) > DRAINING


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for path in UNITS:
        text = re.sub(r"/opt/hybrid-lm/bin/\S+", sys.executable, path.read_text())
        (tmp_path / path.name).write_text(text)
    # an unknown key or value is only a warning for systemd-analyze
    done = subprocess.run(
        ["systemd-analyze", "verify", *(f"./{path.name}" for path in UNITS)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    complaints = [line for line in done.stderr.splitlines() if "hlm-" in line]
    assert (done.returncode, complaints) == (0, [])


def test_the_agents_unit_answers_each_line_of_its_socket(tmp_path: Path, draft_folder: FolderOf) -> None:
    settings = tmp_path / "agent.toml"
    settings.write_text(f'model = "{draft_folder("llama")}"\nscheme = "slm"\nmax_tokens = 4\n')
    arguments = [str(settings) if "examples" in one else one for one in command_of("hlm-agent@.service")[1:]]
    ours, its = socket.socketpair()
    ours.settimeout(60)
    command = [sys.executable, "-m", "edge_agent", *arguments]
    end = its.fileno()
    with its, subprocess.Popen(command, stdin=end, stdout=end, stderr=subprocess.PIPE) as process:
        lines = ours.makefile("rw", buffering=1)
        for prompt in ("hello", "again"):
            lines.write(f"{prompt}\n")
            answer = yaml.safe_load(lines.readline())
            assert (answer["prompt"], answer["num_tokens"], answer["error"]) == (prompt, 4, None)
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(20) == 0
    ours.close()


# -- images -------------------------------------------------------------------------------------------


def stages() -> dict[str, list[list[str]]]:
    """Dockerfile stage -> its instructions, each as words, with those of the stage that it builds on."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    found: dict[str, list[list[str]]] = {}
    current: list[list[str]] = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        words = line.split()
        if words[0] == "FROM":
            current = found[words[3]] = list(found.get(words[1], []))
        current.append(words)
    return found


def test_the_images_are_built_from_what_there_is() -> None:
    kept = set(re.findall(r"^!(.*)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    for words in (one for stage in stages().values() for one in stage):
        if words[0] == "COPY" and not words[1].startswith("--from"):
            for name in words[1:-1]:
                assert (ROOT / name).exists(), name
                assert name in kept, name
        for extra in re.findall(r"'\.\[(\w+)\]'", " ".join(words)):
            assert extra in PROJECT["optional-dependencies"]
        if words[0] == "COPY" and words[1].startswith("--from="):
            assert words[1].removeprefix("--from=") in stages()


@pytest.mark.parametrize("stage", ["build-agent", "build-worker"])
def test_what_an_image_copies_makes_a_wheel(stage: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for words in (one for one in stages()[stage] if one[0] == "COPY"):
        for name in words[1:-1]:
            copy = source / words[-1] / Path(name).name if words[-1].endswith("/") else source / words[-1]
            copy.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, copy)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_what_runs_is_no_root_and_one_of_our_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    for target in ("worker", "agent"):
        instructions = stages()[target]
        assert ["USER", "10001"] in instructions
        (entry,) = (words for words in instructions if words[0] == "ENTRYPOINT")
        assert yaml.safe_load(" ".join(entry[1:]))[0] in PROJECT["scripts"]
        settings = [pair for words in instructions if words[0] == "ENV" for pair in words[1:]]
        set_all(monkeypatch, dict(pair.split("=", 1) for pair in settings if "CLOUD_WORKER_" in pair))
    assert worker_config([]).metrics_port == 9100


# -- compose ------------------------------------------------------------------------------------------


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())


def test_the_compose_files_settings_load_and_its_files_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    file = compose()
    worker, broker = file["services"]["worker"], file["services"]["mosquitto"]
    set_all(monkeypatch, worker["environment"])
    assert worker_config([]).broker == "mqtt://mosquitto:1883"
    build = worker["build"]
    assert (DEPLOY / "compose" / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).exists()
    assert build["target"] in stages()
    assert set(worker["depends_on"]) <= set(file["services"])
    for volume in (*worker["volumes"], *broker["volumes"]):
        source = volume.split(":")[0]
        assert source in file["volumes"] or (DEPLOY / "compose" / source).exists()
    assert all(port.startswith("127.0.0.1:") for port in broker["ports"])  # it asks nobody for a password
    assert int(worker["stop_grace_period"].rstrip("s")) > DRAINING


def test_the_compose_files_images_have_exact_versions() -> None:
    for name, service in compose()["services"].items():
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0,
    reason="docker compose is not installed",
)
def test_docker_takes_the_compose_file() -> None:
    command = ["docker", "compose", "-f", str(DEPLOY / "compose" / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_compose_files_broker_starts(tmp_path: Path) -> None:
    with LocalBroker(tmp_path, conf=DEPLOY / "compose" / "mosquitto.conf"):
        pass


# -- Kubernetes ---------------------------------------------------------------------------------------

FOLDER = DEPLOY / "kubernetes" / "base"
WORKLOADS = ("StatefulSet", "Deployment")


def manifests() -> list[dict[str, Any]]:
    names = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [one for name in names for one in yaml.safe_load_all((FOLDER / name).read_text())]


def of_kind(*kinds: str) -> Iterator[dict[str, Any]]:
    return (one for one in manifests() if one["kind"] in kinds)


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = (one for one in of_kind(kind) if one["metadata"]["name"] == name)
    return found


def test_every_selector_finds_its_pods() -> None:
    templates = [one["spec"]["template"]["metadata"]["labels"] for one in of_kind(*WORKLOADS)]
    for one in of_kind(*WORKLOADS, "Service", "NetworkPolicy", "PodDisruptionBudget"):
        spec = one["spec"]
        selector = spec.get("podSelector", spec.get("selector"))
        labels = selector.get("matchLabels", selector)
        assert any(labels.items() <= template.items() for template in templates), one["metadata"]["name"]


def test_everything_that_a_pod_names_is_there() -> None:
    generated = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["configMapGenerator"]
    maps = {one["metadata"]["name"] for one in of_kind("ConfigMap")} | {one["name"] for one in generated}
    assert all((FOLDER / file).exists() for one in generated for file in one["files"])
    for workload in of_kind(*WORKLOADS):
        pod = workload["spec"]["template"]["spec"]
        volumes = {one["name"] for one in pod.get("volumes", [])}
        volumes |= {one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", [])}
        for volume in pod["volumes"]:
            assert volume.get("configMap", {}).get("name") in {None, *maps}
            assert volume.get("secret", {}).get("secretName") in {None, *OUTSIDE}
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            assert {one["name"] for one in container.get("volumeMounts", [])} <= volumes
            assert {one["configMapRef"]["name"] for one in container.get("envFrom", [])} <= maps
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert pod["securityContext"]["runAsNonRoot"] is True


def test_every_port_that_is_named_is_open() -> None:
    ports = {
        (one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"], port["name"])
        for one in of_kind(*WORKLOADS)
        for container in one["spec"]["template"]["spec"]["containers"]
        for port in container["ports"]
    }
    for service in of_kind("Service"):
        app = service["spec"]["selector"]["app.kubernetes.io/name"]
        assert {(app, port["targetPort"]) for port in service["spec"]["ports"]} <= ports


def test_the_workers_settings_load_and_its_probes_are_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = named("ConfigMap", "hlm-worker")["data"]
    pod = named("Deployment", "hlm-worker")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    names = {one["name"]: "hlm-worker-6f5d9c7b84-x2x9z" for one in container["env"]}  # as pods are called
    set_all(monkeypatch, settings | names)
    config = worker_config([])
    assert (config.broker, config.worker) == ("mqtt://mosquitto:1883", names["CLOUD_WORKER_WORKER"])
    assert {"name": "metrics", "containerPort": config.metrics_port} in container["ports"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert container["livenessProbe"]["httpGet"]["path"] == "/alive"
    assert {"/health", "/alive"} <= set(PATHS)
    assert pod["terminationGracePeriodSeconds"] > DRAINING
    assert ["USER", str(pod["securityContext"]["runAsUser"])] in stages()["worker"]


def test_the_autoscaler_looks_at_metrics_that_workers_have() -> None:
    scaler = named("HorizontalPodAutoscaler", "hlm-worker")["spec"]
    assert "replicas" not in named("Deployment", scaler["scaleTargetRef"]["name"])["spec"]
    values = (DEPLOY / "kubernetes" / "prometheus-adapter-values.yaml").read_text()
    served: dict[str, str] = {}  # custom metric -> the series that it comes from
    for rule in yaml.safe_load(values)["rules"]["custom"]:
        series = rule["seriesQuery"].partition("{")[0]
        served[series if rule["name"]["as"] == "$1" else rule["name"]["as"]] = series
    assert {one["pods"]["metric"]["name"] for one in scaler["metrics"]} == set(served)
    assert set(served.values()) <= set(exposed())


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_renders_all_manifests() -> None:
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    kinds = sorted(one["kind"] for one in yaml.safe_load_all(done.stdout))
    assert kinds == sorted([*(one["kind"] for one in manifests()), "ConfigMap"])


async def connects(url: str, **settings: str) -> bool:
    try:
        secured = replace(LinkSettings(url, "someone"), **settings)
        async with Link(secured, subscriptions=["hlm/v1/demo/open/+/+"]):
            return True
    except LinkError:
        return False


def test_the_clusters_broker_lets_workers_in_by_one_door_and_asks_devices_at_the_other(
    tmp_path: Path,
) -> None:
    workers, devices = free_port(), free_port()
    key, certificate, state = tmp_path / "tls.key", tmp_path / "tls.crt", tmp_path / "dynamic-security.json"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*make, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    subprocess.run(["mosquitto_ctrl", "dynsec", "init", str(state), "admin", "hush"], check=True)
    text = (FOLDER / "mosquitto.conf").read_text()
    plugin = next(Path("/usr").rglob("mosquitto_dynamic_security.so"))
    for old, new in {
        "/usr/lib/mosquitto_dynamic_security.so": str(plugin),
        "/mosquitto/tls/": f"{tmp_path}/",
        "/mosquitto/data/": f"{tmp_path}/",
        "listener 1883": f"user root\nlistener {workers} 127.0.0.1",
        "listener 8883": f"listener {devices} 127.0.0.1",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "mosquitto.conf").write_text(text)
    command = [mosquitto_path(), "-c", str(tmp_path / "mosquitto.conf")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as broker:
        try:
            wait_for(devices)
            assert asyncio.run(connects(f"mqtt://127.0.0.1:{workers}"))
            door = f"mqtts://127.0.0.1:{devices}"
            secured = {"ca_file": str(certificate)}
            assert not asyncio.run(connects(door, **secured))
            assert not asyncio.run(connects(door, **secured, username="admin", password="wrong"))
            assert asyncio.run(connects(door, **secured, username="admin", password="hush"))
        finally:
            broker.terminate()


def wait_for(port: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.02)
    raise AssertionError(f"nobody listens on port {port}")
