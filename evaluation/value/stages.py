"""The measurements in turn: times, texts over every round trip, devices per worker.

Law: a finished part is kept under a key with everything that it depends on. The models are loaded only for
parts that are missing.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from edge_agent.policy.schemes import SCHEMES
from evaluation.fleet.collect import collect
from evaluation.fleet.inputs import Inputs, PassTime
from evaluation.fleet.roofline import H100
from evaluation.fleet.traces import SchemeTraces
from evaluation.models.pair import Pair, load_pair
from evaluation.reporting.finished import Finished
from evaluation.simulate.running import Prompt, Simulation
from evaluation.simulate.world.device import Known
from evaluation.value.capacity import devices_per_worker
from evaluation.value.runs import Cost, run, world
from evaluation.value.schemes import Way, ways
from evaluation.value.times import Times, measure

CACHED_TOKENS = 300  # of a session on a GPU: a prompt and an answer
HERE, GPU = "this machine", "assumed H100"


@dataclass(frozen=True, slots=True)
class Asked:
    """The pair, the prompts by kind, and what else texts and their costs depend on."""

    draft: str
    target: str
    dtype: str
    num_threads: int
    prompts: Mapping[str, Sequence[str]]
    max_tokens: int
    threshold: float | None
    rate_mbps: float
    draft_ms: float | None
    pass_ms: float | None

    @property
    def num_prompts(self) -> int:
        """Of all kinds together."""
        return sum(map(len, self.prompts.values()))


@dataclass(frozen=True, slots=True)
class Asking:
    """Round trips in milliseconds, the p99 target in seconds, prompts per second and device, fleet inputs."""

    round_trips_ms: tuple[int, ...]
    target: float
    rate: float
    inputs: Inputs
    devices: bool = True  # whether to search how many a worker carries


@dataclass(frozen=True, slots=True)
class Found:
    """Everything on the page; costs by round trip and way, devices by machine and way."""

    times: Times
    costs: Mapping[int, Mapping[str, Cost]]
    devices: Mapping[str, Mapping[str, int | None]]
    gpu: PassTime


def measured(asked: Asked, asking: Asking, finished: Finished, cache: Path | None = None) -> Found:
    """Measure what is missing; `cache` keeps the pair's logits on the disk."""
    times = _times(asked, finished)
    chosen = ways(asked.threshold)
    keys = {
        (trip, way.label): f"cost {asked} {times} {way} {trip}"
        for way in chosen
        for trip in asking.round_trips_ms
    }
    traces = {way.label: f"traces {asked} {way}" for way in chosen if way.in_fleet}
    if any(finished.get(key) is None for key in (*keys.values(), *traces.values())):
        with load_pair(
            asked.draft, asked.target, dtype=asked.dtype, num_threads=asked.num_threads, cache=cache
        ) as pair:
            _run_all(pair, asked, times, chosen, keys, traces, finished)
    costs = {
        trip: {way.label: Cost.from_json(finished.get(keys[trip, way.label]) or {}) for way in chosen}
        for trip in asking.round_trips_ms
    }
    gpu = H100.target(
        times.num_parameters,
        CACHED_TOKENS * times.cache_bytes,
        f"assumed, not measured: a roofline of {H100.name} (its data sheet), half of it reached",
    )
    here = times.passes("measured on this machine")
    devices = {
        name: {
            label: _devices(finished, asking, times, passes, SchemeTraces.from_json(finished.get(key) or {}))
            for label, key in traces.items()
            if asking.devices
        }
        for name, passes in ((HERE, here), (GPU, gpu))
    }
    return Found(times, costs, devices, gpu)


def _times(asked: Asked, finished: Finished) -> Times:
    key = f"times {asked.num_threads}"
    if finished.get(key) is None:
        finished.add(key, measure(asked.draft, asked.target, asked.dtype, asked.num_threads).to_json())
    times = Times.from_json(finished.get(key) or {})
    if asked.draft_ms is not None:
        slower = asked.draft_ms / 1000 / times.draft
        times = replace(times, draft=asked.draft_ms / 1000, prompt=slower * times.prompt)
    if asked.pass_ms is not None:
        times = replace(times, fixed=asked.pass_ms / 1000, per_session=0.0, per_token=0.0)
    return times


def _run_all(
    pair: Pair,
    asked: Asked,
    times: Times,
    chosen: Sequence[Way],
    keys: Mapping[tuple[int, str], str],
    traces: Mapping[str, str],
    finished: Finished,
) -> None:
    texts = [one for some in asked.prompts.values() for one in some]
    prompts = [Prompt(tuple(pair.prompt(text)), 1 + number) for number, text in enumerate(texts)]
    known: Known = {}
    with tqdm(total=len(keys) + len(traces), desc="texts", file=sys.stderr) as bar:
        for way in chosen:
            simulation = Simulation(pair, way.variant(asked.max_tokens), known)
            for (trip, label), key in keys.items():
                if label == way.label and finished.get(key) is None:
                    where = world(pair, times.compute, trip / 1000, asked.rate_mbps)
                    cost = run(simulation, prompts, where, measures_drift=way.drifts)
                    finished.add(key, cost.to_json())
                bar.update(label == way.label)
            if way.label in traces and finished.get(traces[way.label]) is None:
                scheme = SCHEMES[way.scheme]
                threshold = simulation.proposals(1).threshold
                found = collect(
                    pair, replace(scheme, threshold=threshold), [one.tokens for one in prompts],
                    max_tokens=asked.max_tokens, seed=1, sampling=simulation.sampling,
                )  # fmt: skip
                finished.add(traces[way.label], found.to_json())
            bar.update(way.label in traces)


def _devices(
    finished: Finished, asking: Asking, times: Times, passes: PassTime, scheme: SchemeTraces
) -> int | None:
    key = f"devices {asking.target} {asking.rate} {times.draft} {passes} {scheme}"
    if finished.get(key) is None:
        count = devices_per_worker(
            scheme, passes, asking.inputs, draft=times.draft, rate=asking.rate, target=asking.target
        )
        finished.add(key, count or 0)
    return finished.get(key) or None
