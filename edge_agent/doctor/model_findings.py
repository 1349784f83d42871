"""Findings about ONNX Runtime and the draft model. Pure."""

from collections.abc import Iterator

from edge_agent.device.energy import joules_per_token, profile_of
from edge_agent.doctor.facts import Machine, Model, Runtime
from edge_agent.doctor.finding import Finding, Level, fail, mib, ok, warn

SLOW_STEP = 0.25  # seconds per token: slower than people read


def model_findings(runtime: Runtime, model: Model | None, machine: Machine) -> Iterator[Finding]:
    """All of them in the order of the screen."""
    yield from _runtime(runtime, machine)
    if model is not None:
        yield from _model(model)
        yield from _step(model, machine)


def _runtime(runtime: Runtime, machine: Machine) -> Iterator[Finding]:
    if runtime.problem is not None:
        yield fail("runtime", runtime.problem, "pip install --upgrade onnxruntime")
        return
    names = ", ".join(name.removesuffix("ExecutionProvider") for name in runtime.providers)
    yield ok("runtime", f"ONNX Runtime {runtime.version} ({names})")
    is_jetson = machine.board is not None and any(name in machine.board for name in ("Jetson", "Orin"))
    if is_jetson and "CUDAExecutionProvider" not in runtime.providers:
        yield warn(
            "runtime",
            "the GPU of this Jetson is not used",
            "install NVIDIA's build of onnxruntime, and set `providers` to CUDAExecutionProvider",
        )


def _model(model: Model) -> Iterator[Finding]:
    if model.problem is not None:
        yield Finding("model", Level.FAILURE, model.problem)
        return
    yield ok(
        "model",
        f"{model.folder}: {model.precision}, {mib(model.num_bytes)}, vocabulary {model.vocabulary:,}, "
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
        yield warn("step", text, advice)
    elif own > SLOW_STEP:
        yield warn("step", text, "use a smaller draft model or precision, or the scheme llm")
    else:
        yield ok("step", text)
