"""How many devices one worker carries at a p99 target, by search over simulations of a fleet.

Law: the answer is a simulated operating point that met the target; one that is 5 % larger did not.
"""

from dataclasses import replace

from evaluation.fleet.inputs import Inputs, PassTime
from evaluation.fleet.traces import SchemeTraces
from evaluation.fleet.world.session import DeviceTime
from evaluation.fleet.world.simulation import Effort, Load, Site, simulate
from evaluation.fleet.world.worker import WorkerTime

LEAST, MOST = 16, 1 << 22  # devices


def devices_per_worker(
    scheme: SchemeTraces, passes: PassTime, inputs: Inputs, *, draft: float, rate: float, target: float
) -> int | None:
    """Return how many devices have a p99 of `target` seconds; None if not even a few do.

    Each asks `rate` times a second and drafts a token in `draft` seconds; worker loop and broker are those of
    the fleet's inputs.
    """
    effort = Effort(max_workers=1, num_answers=1500, warm_up=5.0, least_seconds=20.0)
    site = Site(1, WorkerTime(passes, inputs.loop), inputs.broker, num_brokers=1)
    load = Load(LEAST, rate, scheme, DeviceTime(draft))

    def carries(count: int) -> bool:
        return simulate(replace(load, num_devices=count), site, effort).meets(target)

    if not carries(LEAST):
        return None
    enough, many = LEAST, 2 * LEAST
    while many <= MOST and carries(many):
        enough, many = many, 2 * many
    while many - enough > max(1, enough // 20):
        middle = (enough + many) // 2
        enough, many = (middle, many) if carries(middle) else (enough, middle)
    return enough
