"""From facts to findings: what is well, what is not, and what to do about it. Pure.

Law: every finding that is not well says what to do. Only what keeps the agent from answering fails.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from common.link.values import WARN_DAYS
from common.protocol.worker_status import State
from edge_agent.device.energy import joules_per_token, profile_of
from edge_agent.device.readings import MIB, Memory
from edge_agent.doctor.facts import Cloud, Facts, Machine, Model, Runtime

HOT = 75.0  # degrees Celsius; small boards slow down at 80 to 85
RUNTIME_BYTES = 120 * MIB  # of the process beside weights and cache
TOO_EARLY = 2025  # a year before this release: the clock was never set
SLOW_STEP = 0.25  # seconds per token: slower than people read
SLOW_ROUND_TRIP = 0.5  # seconds


class Level(StrEnum):
    """How well something is."""

    OK = "ok"
    WARNING = "warn"
    FAILURE = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the screen, and the advice below it."""

    subject: str
    level: Level
    text: str
    advice: str | None = None


def findings(facts: Facts) -> list[Finding]:
    """All findings in the order of the screen."""
    found = [*_processor(facts.machine), *_memory(facts), *_heat(facts.machine), *_clock(facts)]
    found += _runtime(facts.runtime, facts.machine)
    if facts.model is not None:
        found += [*_model(facts.model), *_step(facts.model, facts.machine)]
    return found + (_no_cloud() if facts.cloud is None else list(_cloud(facts.cloud)))


def can_run(found: list[Finding]) -> bool:
    """Whether the agent can answer as it is set up."""
    return all(one.level is not Level.FAILURE for one in found)


def needed_bytes(model: Model, num_positions: int) -> int:
    """Memory of an agent with this model after `num_positions`: weights, cache, and the rest."""
    return model.num_bytes + (model.position_bytes or 0) * num_positions + RUNTIME_BYTES


def _ok(subject: str, text: str) -> Finding:
    return Finding(subject, Level.OK, text)


def _warn(subject: str, text: str, advice: str) -> Finding:
    return Finding(subject, Level.WARNING, text, advice)


def _fail(subject: str, text: str, advice: str) -> Finding:
    return Finding(subject, Level.FAILURE, text, advice)


def _processor(machine: Machine) -> Iterator[Finding]:
    processor, load = machine.processor, machine.load
    classes = " + ".join(f"{one.num} x {one.name}" for one in processor.classes) or processor.machine
    features = ", ".join(sorted(processor.features)) or "no features known"
    board = f"{machine.board}: " if machine.board else ""
    yield _ok("processor", f"{board}{classes}; {features}")
    if processor.is_arm and "asimd" in processor.features and "dotprod" not in processor.features:
        yield _warn(
            "kernels",
            "no dot product instructions: int4 and int8 take a slower kernel",
            "compare the step time of int8 and int4 graphs; the smaller one is not always faster here",
        )
    elif processor.machine in ("x86_64", "AMD64") and processor.features and "avx2" not in processor.features:
        yield _warn("kernels", "no avx2", "expect several times the step time of a newer processor")
    if processor.machine in ("armv6l", "armv7l", "i686"):
        yield _fail(
            "kernels",
            f"{processor.machine} is a 32-bit system",
            "install a 64-bit system: there is no ONNX Runtime for this one",
        )
    if load.average > load.num_usable:
        yield _warn(
            "load",
            f"{load.average:.1f} tasks for {load.num_usable} cores",
            "end other programs: threads that wait for a core slow the others down",
        )


def _memory(facts: Facts) -> Iterator[Finding]:
    memory, model = facts.machine.memory, facts.model
    if memory is None:
        return
    text = f"{_mib(memory.available)} of {_mib(memory.total)} free"
    if model is None or not model.num_bytes:
        yield _ok("memory", text)
        return
    full = needed_bytes(model, facts.wanted_positions)
    text += f"; the model needs about {_mib(full)} at {facts.wanted_positions} positions"
    yield _judged_memory(memory, text, needed_bytes(model, 0), full)


def _judged_memory(memory: Memory, text: str, least: int, full: int) -> Finding:
    smaller = "use a smaller model or precision (int4), or end other programs"
    if least > memory.available + memory.swap:
        return _fail("memory", text, smaller)
    if full > memory.available:
        return _warn("memory", text, f"{smaller}; swapping makes every token slow")
    return _ok("memory", text)


def _heat(machine: Machine) -> Iterator[Finding]:
    heat = machine.heat
    if "under-voltage" in heat.throttled_now + heat.throttled_before:
        yield _warn(
            "power supply",
            "under-voltage" + (" now" if "under-voltage" in heat.throttled_now else " since the start"),
            "use a stronger power supply and a short cable (5 V, 5 A for a Pi 5; 5 V, 3 A for a Pi 4)",
        )
    slowed = [one for one in heat.throttled_now if one != "under-voltage"]
    degrees = "temperature unknown" if heat.temperature is None else f"{heat.temperature:.0f} °C"
    if slowed:
        yield _warn("heat", f"{degrees}; {', '.join(slowed)} now", "add cooling, or set `power` to eco")
    elif heat.temperature is not None and heat.temperature >= HOT:
        yield _warn("heat", degrees, "add cooling, or set `power` to eco: it slows down at 80 to 85 °C")
    elif any(one != "under-voltage" for one in heat.throttled_before):
        yield _warn("heat", f"{degrees}; slowed down before", "add cooling, or set `power` to eco")
    elif heat.temperature is not None:
        yield _ok("heat", degrees)
    if heat.governor == "powersave" and machine.processor.is_arm:
        yield _warn(
            "frequency",
            "the governor is powersave: the lowest frequency",
            "echo ondemand | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
        )


def _clock(facts: Facts) -> Iterator[Finding]:
    machine = facts.machine
    set_it = "sudo timedatectl set-ntp true"
    if machine.year < TOO_EARLY:
        text = f"the clock shows the year {machine.year}"
        if facts.cloud is not None and facts.cloud.encrypted:
            yield _fail("clock", f"{text}: certificates are not valid yet", set_it)
        else:
            yield _warn("clock", text, set_it)
    elif machine.clock_synchronised is False:
        yield _warn("clock", "not synchronised", f"{set_it}; certificates and logs need the time")
    elif machine.clock_synchronised:
        yield _ok("clock", "synchronised")


def _runtime(runtime: Runtime, machine: Machine) -> Iterator[Finding]:
    if runtime.problem is not None:
        yield _fail("runtime", runtime.problem, "pip install --upgrade onnxruntime")
        return
    names = ", ".join(name.removesuffix("ExecutionProvider") for name in runtime.providers)
    yield _ok("runtime", f"ONNX Runtime {runtime.version} ({names})")
    is_jetson = machine.board is not None and any(name in machine.board for name in ("Jetson", "Orin"))
    if is_jetson and "CUDAExecutionProvider" not in runtime.providers:
        yield _warn(
            "runtime",
            "the GPU of this Jetson is not used",
            "install NVIDIA's build of onnxruntime, and set `providers` to CUDAExecutionProvider",
        )


def _model(model: Model) -> Iterator[Finding]:
    if model.problem is not None:
        yield Finding("model", Level.FAILURE, model.problem)
        return
    yield _ok(
        "model",
        f"{model.folder}: {model.precision}, {_mib(model.num_bytes)}, vocabulary {model.vocabulary:,}, "
        f"context {model.max_positions:,}",
    )


def _step(model: Model, machine: Machine) -> Iterator[Finding]:
    if not model.step_times:
        return
    num, times = model.num_threads, model.step_times
    own = times[num]
    text = f"{1000 * own:.1f} ms per token with {num} thread{'s' if num > 1 else ''}"
    best = min(times, key=lambda one: times[one])
    profile = profile_of(machine.board, machine.processor)
    joules = joules_per_token(profile, own, model.step_cpu[num])
    text += f"; about {joules:.2g} J per token by the model of {profile.name}"
    if times[best] < 0.9 * own:
        advice = f"set `num_threads` to {best}: {1000 * times[best]:.1f} ms per token"
        yield _warn("step", text, advice)
    elif own > SLOW_STEP:
        yield _warn("step", text, "use a smaller draft model or precision, or the scheme llm")
    else:
        yield _ok("step", text)


def _no_cloud() -> list[Finding]:
    return [_ok("broker", "not needed: this scheme works alone")]


def _cloud(cloud: Cloud) -> Iterator[Finding]:
    if cloud.problem is not None:
        yield _lost(cloud, "broker", cloud.problem)
        return
    yield _broker(cloud)
    yield from _pool(cloud)
    if cloud.failure is not None:
        yield _lost(cloud, "round trip", cloud.failure)
    elif cloud.round_trip is not None:
        text = f"{1000 * cloud.round_trip:.0f} ms for one verified draft"
        if cloud.round_trip > SLOW_ROUND_TRIP:
            yield _warn("round trip", text, "use a nearer broker, more workers, or the scheme opportunistic")
        else:
            yield _ok("round trip", text)


def _lost(cloud: Cloud, subject: str, text: str) -> Finding:
    """The cloud does not answer: the end for an agent, unless it goes on alone."""
    if cloud.is_optional:
        return _warn(subject, text, "until then the draft model answers alone (`on_cloud_loss` local)")
    return _fail(subject, text, "`on_cloud_loss` local lets the draft model answer alone meanwhile")


def _broker(cloud: Cloud) -> Finding:
    days = cloud.certificate_days
    if not cloud.encrypted:
        return _ok("broker", f"{cloud.broker}, not encrypted")
    if days is not None and days < WARN_DAYS:
        return _warn(
            "broker", f"{cloud.broker}, TLS, a certificate expires in {days} days", "renew it before that day"
        )
    return _ok("broker", f"{cloud.broker}, TLS" + ("" if days is None else f", certificates for {days} days"))


def _pool(cloud: Cloud) -> Iterator[Finding]:
    if cloud.workers is None:
        yield _ok("pool", f"{cloud.pool}; this account may not see the workers' status")
        return
    online = {name: one for name, one in cloud.workers.items() if one.state is State.ONLINE}
    if not online:
        yield _warn(
            "pool",
            f"no worker is online in pool {cloud.pool}",
            "start one with cloud-worker run, or correct `pool`",
        )
        return
    models = ", ".join(sorted({one.model for one in online.values()}))
    num = len(online)
    yield _ok("pool", f"{cloud.pool}: {num} worker{'s' if num > 1 else ''} online ({models})")


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / MIB:,.0f} MiB"
