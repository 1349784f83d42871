"""`edge-agent doctor`: from facts to findings and advice, and the command on this machine."""

import dataclasses
import json
from pathlib import Path

import pytest

from common.protocol.worker_status import State, Status
from edge_agent.__main__ import main
from edge_agent.device.processor import parse_cpuinfo
from edge_agent.device.readings import MIB, Heat, Load, Memory
from edge_agent.doctor.facts import Cloud, Facts, Machine, Model, Runtime
from edge_agent.doctor.finding import Finding, Level
from edge_agent.doctor.findings import can_run, findings
from edge_agent.doctor.machine_findings import needed_bytes
from edge_agent.doctor.screen import as_json, as_lines
from edge_agent.draft_model.precision import precision_of
from evaluation.local.broker import LocalBroker, free_port
from evaluation.local.worker import LocalWorker
from tests.support.machines import EPYC, PI_4, PI_5, cpuinfo

WORKER = Status(State.ONLINE, "demo", "SmolLM2-1.7B", "0.1.0")
MACHINE = Machine(
    processor=parse_cpuinfo(cpuinfo(*[PI_5] * 4), "aarch64"),
    board="Raspberry Pi 5 Model B Rev 1.0",
    load=Load(4, 0.2),
    memory=Memory(8000 * MIB, 6000 * MIB),
    heat=Heat(52.0),
    year=2030,
    clock_synchronised=True,
)
MODEL = Model(
    "small",
    folder="/models/small",
    precision="int4",
    vocabulary=49152,
    max_positions=2048,
    num_bytes=100 * MIB,
    position_bytes=MIB // 32,
    num_threads=4,
    step_times={1: 0.05, 4: 0.02},
    step_cpu={1: 0.05, 4: 0.07},
)
CLOUD = Cloud(
    "mqtts://broker",
    "demo",
    encrypted=True,
    certificate_days=90,
    workers={"w": WORKER},
    round_trip=0.08,
)
WELL = Facts("0.1.0", MACHINE, Runtime("1.23.2", ("CPUExecutionProvider",)), MODEL, CLOUD, 256)


def found(facts: Facts, subject: str) -> Finding:
    """The one finding of a subject that is not well, or the first."""
    ours = [one for one in findings(facts) if one.subject == subject]
    return next((one for one in ours if one.level is not Level.OK), ours[0])


def with_machine(**changes: object) -> Facts:
    return dataclasses.replace(WELL, machine=dataclasses.replace(MACHINE, **changes))


def with_model(**changes: object) -> Facts:
    return dataclasses.replace(WELL, model=dataclasses.replace(MODEL, **changes))


def with_cloud(**changes: object) -> Facts:
    return dataclasses.replace(WELL, cloud=dataclasses.replace(CLOUD, **changes))


def test_a_device_that_is_well_has_nothing_to_change() -> None:
    assert [one for one in findings(WELL) if one.level is not Level.OK] == []
    assert can_run(findings(WELL))


PI_4_PROCESSOR = parse_cpuinfo(cpuinfo(*[PI_4] * 4), "aarch64")
OLD_X86 = parse_cpuinfo(cpuinfo(EPYC.replace(" avx2", "").replace("avx512f", "")), "x86_64")


@pytest.mark.parametrize(
    ("facts", "subject", "level", "words"),
    [
        (with_machine(processor=PI_4_PROCESSOR), "kernels", Level.WARNING, "no dot product"),
        (with_machine(processor=OLD_X86), "kernels", Level.WARNING, "no avx2"),
        (with_machine(processor=parse_cpuinfo("", "armv7l")), "kernels", Level.FAILURE, "32-bit"),
        (with_machine(load=Load(4, 6.0)), "load", Level.WARNING, "6.0 tasks for 4 cores"),
        (with_machine(memory=Memory(512 * MIB, 90 * MIB)), "memory", Level.FAILURE, "90 MiB of 512 MiB"),
        (with_machine(memory=Memory(512 * MIB, 222 * MIB)), "memory", Level.WARNING, "needs about 308 MiB"),
        (with_machine(memory=Memory(512 * MIB, 90 * MIB, 500 * MIB)), "memory", Level.WARNING, "90 MiB"),
        (with_machine(heat=Heat(79.0)), "heat", Level.WARNING, "79 °C"),
        (with_machine(heat=Heat(83.0, ("throttled",))), "heat", Level.WARNING, "throttled now"),
        (with_machine(heat=Heat(50.0, (), ("throttled",))), "heat", Level.WARNING, "slowed down before"),
        (with_machine(heat=Heat(50.0, ("under-voltage",))), "power supply", Level.WARNING, "now"),
        (with_machine(heat=Heat(50.0, governor="powersave")), "frequency", Level.WARNING, "powersave"),
        (with_machine(clock_synchronised=False), "clock", Level.WARNING, "not synchronised"),
        (with_machine(year=1970), "clock", Level.FAILURE, "1970"),
        (
            dataclasses.replace(with_machine(year=1970), cloud=dataclasses.replace(CLOUD, encrypted=False)),
            "clock",
            Level.WARNING,
            "1970",
        ),
        (with_machine(board="NVIDIA Jetson Orin Nano"), "runtime", Level.WARNING, "the GPU"),
        (
            dataclasses.replace(WELL, runtime=Runtime(problem="it crashes (SIGILL)"), model=None),
            "runtime",
            Level.FAILURE,
            "SIGILL",
        ),
        (with_model(problem="no graph: make one"), "model", Level.FAILURE, "no graph"),
        (
            with_model(step_times={1: 0.05, 4: 0.4}),
            "step",
            Level.WARNING,
            "with 4 threads",
        ),
        (with_model(step_times={4: 0.4}), "step", Level.WARNING, "400.0 ms"),
        (with_cloud(problem="no broker at x"), "broker", Level.FAILURE, "no broker at x"),
        (with_cloud(problem="no broker at x", is_optional=True), "broker", Level.WARNING, "no broker at x"),
        (with_cloud(certificate_days=3), "broker", Level.WARNING, "expires in 3 days"),
        (with_cloud(workers={}), "pool", Level.WARNING, "no worker is online"),
        (
            with_cloud(workers={"w": dataclasses.replace(WORKER, state=State.OFFLINE)}),
            "pool",
            Level.WARNING,
            "no worker is online",
        ),
        (with_cloud(failure="no worker answered"), "round trip", Level.FAILURE, "no worker answered"),
        (with_cloud(round_trip=0.9), "round trip", Level.WARNING, "900 ms"),
    ],
)
def test_what_is_not_well_is_named_with_what_to_do(
    facts: Facts, subject: str, level: Level, words: str
) -> None:
    finding = found(facts, subject)
    assert finding.level is level
    assert words in finding.text
    assert finding.advice or ":" in finding.text  # messages of the agent have their advice in them
    assert can_run(findings(facts)) == (level is not Level.FAILURE)


def test_more_threads_than_are_good_come_with_the_better_number() -> None:
    advice = found(with_model(step_times={1: 0.05, 4: 0.4}), "step").advice
    assert advice == "set `num_threads` to 1: 50.0 ms per token"


def test_an_account_that_may_not_see_workers_is_no_fault() -> None:
    finding = found(with_cloud(workers=None), "pool")
    assert (finding.level, "may not see" in finding.text) == (Level.OK, True)


def test_a_scheme_without_a_cloud_asks_no_broker() -> None:
    assert found(dataclasses.replace(WELL, cloud=None), "broker").level is Level.OK


def test_memory_grows_with_the_positions() -> None:
    assert needed_bytes(MODEL, 64) - needed_bytes(MODEL, 0) == 64 * MIB // 32


def test_the_screen_has_a_line_for_each_finding_and_json_has_the_facts() -> None:
    every = findings(with_cloud(problem="no broker"))
    lines = as_lines(every)
    assert len(lines) == len(every) + sum(one.advice is not None for one in every)
    assert max(map(len, as_lines(findings(WELL)))) < 160
    table = json.loads(as_json(WELL, findings(WELL)))
    assert table["can_run"] is True
    assert table["facts"]["machine"]["processor"]["features"] == ["asimd", "dotprod", "fp16"]
    assert {"subject", "level", "text", "advice"} == set(table["findings"][0])


@pytest.mark.parametrize(
    ("content", "precision"),
    [
        (b"\x0a\x04bits\x18\x04..", "int4"),
        (b"\x0a\x04bits\x18\x04..\x0a\x04bits\x18\x08..", "int4 + int8"),
        (b"..DynamicQuantizeMatMul..", "int8"),
        (b"MatMul", "fp32"),
    ],
)
def test_the_precision_is_found_in_the_graph(content: bytes, precision: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert precision_of(path) == precision


def test_alone_it_says_that_the_draft_model_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--scheme", "slm", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert facts["model"]["precision"] == "fp32"
    assert facts["model"]["step_times"]["1"] > 0
    assert facts["runtime"]["version"]


def test_without_a_broker_it_cannot_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--broker", f"mqtt://127.0.0.1:{free_port()}"]) == 1
    assert "no broker at 127.0.0.1" in capsys.readouterr().out


def test_a_model_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--scheme", "slm", "--model", "/nowhere/model"]) == 1
    assert "FAIL  model" in capsys.readouterr().out


def test_an_empty_pool_is_seen(broker: LocalBroker, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--broker", broker.url, "--json", "--cloud-timeout", "1"]) == 1
    cloud = json.loads(capsys.readouterr().out)["facts"]["cloud"]
    assert "no worker" in cloud["failure"]
    assert cloud["workers"] == {}


@pytest.mark.slow
def test_a_worker_is_seen_and_answers(broker: LocalBroker, capsys: pytest.CaptureFixture[str]) -> None:
    with LocalWorker(broker.url):
        assert main(["doctor", "--broker", broker.url, "--json"]) == 0
    cloud = json.loads(capsys.readouterr().out)["facts"]["cloud"]
    assert cloud["round_trip"] > 0
    assert list(cloud["workers"]) == ["worker"]
