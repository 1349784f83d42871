"""Findings about the device without our programs: processor, memory, heat, clock. Pure."""

from collections.abc import Iterator

from edge_agent.device.readings import MIB, Memory
from edge_agent.doctor.facts import Facts, Machine, Model
from edge_agent.doctor.finding import Finding, fail, mib, ok, warn

HOT = 75.0  # degrees Celsius; small boards slow down at 80 to 85
LEAST_RUNTIME_BYTES = 120 * MIB  # of the process beside weights and cache, without which it is hopeless
RUNTIME_BYTES = 200 * MIB  # beside weights and cache, with a vocabulary of 50,000 to 150,000
TOO_EARLY = 2025  # a year before this release: the clock was never set


def machine_findings(facts: Facts) -> Iterator[Finding]:
    """All of them in the order of the screen."""
    yield from _processor(facts.machine)
    yield from _memory(facts)
    yield from _heat(facts.machine)
    yield from _clock(facts)


def needed_bytes(model: Model, num_positions: int, runtime_bytes: int = RUNTIME_BYTES) -> int:
    """Memory of an agent with this model after `num_positions`: weights, cache, and the rest."""
    return model.num_bytes + (model.position_bytes or 0) * num_positions + runtime_bytes


def _processor(machine: Machine) -> Iterator[Finding]:
    processor, load = machine.processor, machine.load
    classes = " + ".join(f"{one.num} x {one.name}" for one in processor.classes) or processor.machine
    features = ", ".join(sorted(processor.features)) or "no features known"
    board = f"{machine.board}: " if machine.board else ""
    yield ok("processor", f"{board}{classes}; {features}")
    if processor.is_arm and "asimd" in processor.features and "dotprod" not in processor.features:
        yield warn(
            "kernels",
            "no dot product instructions: int4 and int8 take a slower kernel",
            "compare the step time of int8 and int4 graphs; the smaller one is not always faster here",
        )
    elif processor.machine in ("x86_64", "AMD64") and processor.features and "avx2" not in processor.features:
        yield warn("kernels", "no avx2", "expect several times the step time of a newer processor")
    if processor.machine in ("armv6l", "armv7l", "i686"):
        yield fail(
            "kernels",
            f"{processor.machine} is a 32-bit system",
            "install a 64-bit system: there is no ONNX Runtime for this one",
        )
    if load.average > load.num_usable:
        yield warn(
            "load",
            f"{load.average:.1f} tasks for {load.num_usable} cores",
            "end other programs: threads that wait for a core slow the others down",
        )


def _memory(facts: Facts) -> Iterator[Finding]:
    memory, model = facts.machine.memory, facts.model
    if memory is None:
        return
    text = f"{mib(memory.available)} of {mib(memory.total)} free"
    if model is None or not model.num_bytes:
        yield ok("memory", text)
        return
    full = needed_bytes(model, facts.wanted_positions)
    text += f"; the model needs about {mib(full)} at {facts.wanted_positions} positions"
    yield _judged_memory(memory, text, needed_bytes(model, 0, LEAST_RUNTIME_BYTES), full)


def _judged_memory(memory: Memory, text: str, least: int, full: int) -> Finding:
    smaller = "use a smaller model or precision (int4), or end other programs"
    if least > memory.available + memory.swap:
        return fail("memory", text, smaller)
    if full > memory.available:
        return warn("memory", text, f"{smaller}; swapping makes every token slow")
    return ok("memory", text)


def _heat(machine: Machine) -> Iterator[Finding]:
    heat = machine.heat
    if "under-voltage" in heat.throttled_now + heat.throttled_before:
        yield warn(
            "power supply",
            "under-voltage" + (" now" if "under-voltage" in heat.throttled_now else " since the start"),
            "use a stronger power supply and a short cable (5 V, 5 A for a Pi 5; 5 V, 3 A for a Pi 4)",
        )
    slowed = [one for one in heat.throttled_now if one != "under-voltage"]
    degrees = "temperature unknown" if heat.temperature is None else f"{heat.temperature:.0f} °C"
    if slowed:
        yield warn("heat", f"{degrees}; {', '.join(slowed)} now", "add cooling, or set `power` to eco")
    elif heat.temperature is not None and heat.temperature >= HOT:
        yield warn("heat", degrees, "add cooling, or set `power` to eco: it slows down at 80 to 85 °C")
    elif any(one != "under-voltage" for one in heat.throttled_before):
        yield warn("heat", f"{degrees}; slowed down before", "add cooling, or set `power` to eco")
    elif heat.temperature is not None:
        yield ok("heat", degrees)
    if heat.governor == "powersave" and machine.processor.is_arm:
        yield warn(
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
            yield fail("clock", f"{text}: certificates are not valid yet", set_it)
        else:
            yield warn("clock", text, set_it)
    elif machine.clock_synchronised is False:
        yield warn("clock", "not synchronised", f"{set_it}; certificates and logs need the time")
    elif machine.clock_synchronised:
        yield ok("clock", "synchronised")
