"""How many workers and brokers a fleet needs for a p99 target, by search over simulations.

Law: every answer is a simulated operating point that met the target; a pool that is one worker or 5 % smaller
was simulated too and did not, within the noise of a simulation.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from evaluation.fleet.world.simulation import Effort, Load, Outcome, Site, simulate

MAX_BROKER_LOAD = 0.7  # above it a queue of messages grows at every burst
MAX_WORKERS = 1 << 20


def enough_workers(
    load: Load, site: Site, effort: Effort, target: float, on_outcome: Callable[[Outcome], None]
) -> Outcome | None:
    """Find the smallest pool that meets a p99 of `target` seconds; None if no pool does.

    The search starts at twice what the work alone needs, doubles until a pool is large enough, then halves
    the interval down to 5 % or one worker. `on_outcome` is called with each simulated pool.
    """

    def attempt(num_workers: int) -> Outcome:
        outcome = simulate(load, replace(site, num_workers=num_workers), effort)
        on_outcome(outcome)
        return outcome

    too_few, many = 0, _first_guess(load, site)
    while not (found := attempt(many)).meets(target):
        if many >= MAX_WORKERS or _is_light(found):
            return None
        too_few, many = many, 2 * many
    while found.num_workers - too_few > max(1, found.num_workers // 20):
        middle = (too_few + found.num_workers) // 2
        outcome = attempt(middle)
        if outcome.meets(target):
            found = outcome
        else:
            too_few = middle
    return found


def enough_brokers(load: Load, site: Site, effort: Effort) -> int:
    """Return how many brokers keep the load below MAX_BROKER_LOAD, by the messages of a small run."""
    ample = replace(site, num_workers=_first_guess(load, site), num_brokers=1)
    few = replace(effort, num_answers=1000)
    small = replace(load, num_devices=min(load.num_devices, 1000))
    light = simulate(small, replace(ample, num_workers=8), few)
    return max(1, math.ceil(light.broker_load * load.num_devices / small.num_devices / MAX_BROKER_LOAD))


def _first_guess(load: Load, site: Site) -> int:
    """Return the number of workers at which passes, in full batches, take half the time."""
    scheme = load.scheme
    steps = [each.steps for each in scheme.traces]
    asked = [sum(step != "s" for step in each) if scheme.drafts else len(each) for each in steps]
    full = site.limits.max_batch
    per_job = site.worker_time.cycle(full, 4 * full, full) / full
    jobs = sum(asked) / len(asked) / (1 if scheme.window == 1 else 4)
    return max(1, math.ceil(2 * load.sessions_per_second * jobs * per_job))


def _is_light(outcome: Outcome) -> bool:
    """Whether the workers are nearly idle, so that more of them cannot help."""
    return outcome.worker_load < 0.02
