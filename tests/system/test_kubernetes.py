"""The variants of the manifests, as kubectl renders them: pinned, spread, complete, scaled by what there is.

`make test-kubernetes` also compares them with the schemas of Kubernetes and KEDA. Nothing is applied to a
cluster.
"""

import functools
import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud_worker.config import WorkerConfig
from common.process.settings import CommandLine, add_flags, load
from tests.support.exposed_metrics import exposed

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
SCALED_OBJECT = FOLDER / "components" / "keda" / "scaledobject.yaml"
SECRETS = {"mosquitto-tls", "mosquitto-accounts", "broker-account"}  # deploy/README.md says how to make them
SCHEMAS = os.environ.get("KUBERNETES_SCHEMAS", "")  # a folder that make test-kubernetes fills
VERSIONS = ("1.30", "1.37")
EXACT = re.compile(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*")

Manifest = dict[str, Any]

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
every_variant = pytest.mark.parametrize("variant", [".", "gpu", "existing-broker", "fleet"])
needs_schemas = pytest.mark.skipif(not SCHEMAS, reason="schemas are installed by make test-kubernetes")


@functools.cache
def rendered(variant: str) -> str:
    done = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER / variant)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def manifests(variant: str) -> list[Manifest]:
    return list(yaml.safe_load_all(rendered(variant)))


def of_kind(variant: str, kind: str) -> list[Manifest]:
    return [one for one in manifests(variant) if one["kind"] == kind]


def pods(variant: str) -> list[Manifest]:
    return [
        one["spec"]["template"]["spec"] for one in manifests(variant) if "template" in one.get("spec", {})
    ]


def worker_pod(variant: str) -> Manifest:
    (deployment,) = of_kind(variant, "Deployment")
    return deployment["spec"]["template"]["spec"]


def settings(variant: str) -> dict[str, str]:
    (found,) = (one for one in of_kind(variant, "ConfigMap") if one["metadata"]["name"] == "hlm-worker")
    return found["data"]


@every_variant
def test_every_image_has_an_exact_version(variant: str) -> None:
    for pod in pods(variant):
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            assert EXACT.fullmatch(container["image"]), container["image"]


@every_variant
def test_the_settings_load(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings(variant).items():
        monkeypatch.setenv(name, value)
    parser = CommandLine(prog="cloud-worker")
    add_flags(parser, WorkerConfig, "CLOUD_WORKER_")
    load(WorkerConfig, parser.parse_args([]), "CLOUD_WORKER_")


@every_variant
def test_everything_that_a_pod_names_is_there(variant: str) -> None:
    names = {(one["kind"], one["metadata"]["name"]) for one in manifests(variant)}
    names |= {("Secret", name) for name in SECRETS}
    for pod in pods(variant):
        for volume in pod["volumes"]:
            for kind, source, key in (
                ("ConfigMap", "configMap", "name"),
                ("Secret", "secret", "secretName"),
                ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
            ):
                if source in volume:
                    assert (kind, volume[source][key]) in names
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            assert {
                ("ConfigMap", one["configMapRef"]["name"]) for one in container.get("envFrom", [])
            } <= names
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert pod["securityContext"]["runAsNonRoot"] is True


@every_variant
def test_workers_are_spread_over_zones_and_nodes(variant: str) -> None:
    spread = worker_pod(variant)["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]


@pytest.mark.parametrize("variant", ["gpu", "fleet"])
def test_a_gpu_variant_asks_for_one_gpu_and_reads_its_model_from_a_volume(variant: str) -> None:
    pod = worker_pod(variant)
    (worker,) = pod["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert settings(variant)["CLOUD_WORKER_DEVICE"] == "cuda"
    (models,) = (one for one in pod["volumes"] if one["name"] == "models")
    assert models == {
        "name": "models",
        "persistentVolumeClaim": {"claimName": "hlm-models", "readOnly": True},
    }
    (job,) = of_kind(variant, "Job")
    (fetch,) = job["spec"]["template"]["spec"]["containers"]
    assert fetch["envFrom"] == worker["envFrom"]  # so it fetches the model that workers load
    (wait,) = pod["initContainers"]
    assert "complete" in wait["command"][-1]
    assert "complete" in fetch["command"][-1]


@pytest.mark.parametrize("variant", ["existing-broker", "fleet"])
def test_with_an_existing_broker_nothing_of_mosquitto_is_left(variant: str) -> None:
    assert "mosquitto" not in rendered(variant)
    (worker,) = worker_pod(variant)["containers"]
    paths = [one["mountPath"] for one in worker["volumeMounts"]]
    for name in ("CLOUD_WORKER_PASSWORD_FILE", "CLOUD_WORKER_CA_FILE"):
        assert any(settings(variant)[name].startswith(f"{path}/") for path in paths)


# -- KEDA ---------------------------------------------------------------------------------------------------


def triggers() -> dict[str, Manifest]:
    (scaler,) = of_kind("fleet", "ScaledObject")
    return {one["name"]: one["metadata"] for one in scaler["spec"]["triggers"]}


def test_keda_takes_the_place_of_the_autoscaler() -> None:
    assert of_kind("fleet", "HorizontalPodAutoscaler") == []
    (scaler,) = of_kind("fleet", "ScaledObject")
    (deployment,) = of_kind("fleet", "Deployment")
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]


def test_keda_asks_for_metrics_that_workers_have() -> None:
    names = [re.findall(r"\bhlm_\w+", one["query"]) for one in triggers().values()]
    assert all(names)
    assert {name for each in names for name in each} <= set(exposed())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="prometheus is not installed")
@pytest.mark.parametrize(
    ("busy", "waiting", "num_workers"),
    [(0.75, 0, 3), (0.25, 0, 1), (0.75, 10, 5)],  # of each of two workers
)
def test_prometheus_answers_with_the_load_of_all_workers(
    busy: float, waiting: int, num_workers: int, tmp_path: Path
) -> None:
    """KEDA asks for as many workers as the answer divided by the threshold, rounded up."""
    pods = [f'{{namespace="hybrid-lm", pod="w{number}"}}' for number in range(2)]
    series = [
        {"series": f"hlm_worker_compute_seconds_sum{pod}", "values": f"0+{15 * busy}x40"} for pod in pods
    ]
    series += [{"series": f"hlm_worker_queue{pod}", "values": f"{waiting}+0x40"} for pod in pods]
    expected = {"busy-share": 2 * busy, "queue": 2.0 * waiting}
    wanted = {
        name: math.ceil(round(value / float(triggers()[name]["threshold"]), 6))
        for name, value in expected.items()
    }
    assert max(wanted.values()) == num_workers
    checks = [
        {"expr": triggers()[name]["query"], "eval_time": "10m", "exp_samples": [{"value": value}]}
        for name, value in expected.items()
    ]
    test = {"tests": [{"interval": "15s", "input_series": series, "promql_expr_test": checks}]}
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(test))
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# -- schemas ------------------------------------------------------------------------------------------------


@needs_schemas
@pytest.mark.parametrize("version", VERSIONS)
@every_variant
def test_kubernetes_knows_every_field(variant: str, version: str, tmp_path: Path) -> None:
    file = tmp_path / "manifests.yaml"
    known = [one for one in manifests(variant) if one["kind"] != "ScaledObject"]
    file.write_text(yaml.safe_dump_all(known))
    command = [f"{SCHEMAS}/bin/kubernetes-validate", "-k", version, "--strict", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert output.count("passed for resource") == len(known)


@needs_schemas
def test_kubernetes_would_refuse_an_unknown_field(tmp_path: Path) -> None:
    file = tmp_path / "manifests.yaml"
    file.write_text(rendered(".").replace("maxSkew:", "maxSkews:"))
    command = [f"{SCHEMAS}/bin/kubernetes-validate", "--strict", str(file)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


@needs_schemas
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_keda_takes_the_scaled_object() -> None:
    program = """
        import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
        import { readFileSync } from "node:fs";
        new ScaledObject(JSON.parse(readFileSync(0))).validate();
    """
    (given,) = of_kind("fleet", "ScaledObject")
    wrong = json.loads(json.dumps(given))
    del wrong["spec"]["triggers"]
    for manifest, is_right in ((given, True), (wrong, False)):
        done = subprocess.run(
            ["node", "--input-type=module", "-e", program],
            input=json.dumps(manifest),
            cwd=SCHEMAS,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) is is_right, done.stderr
