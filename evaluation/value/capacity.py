"""How many devices one worker carries at a p99 target, by search over simulations of a fleet.

Law: the answer is a simulated operating point that met the target; one that is 10 % larger did not.
"""

from evaluation.fleet.inputs import Inputs, PassTime
from evaluation.fleet.traces import SchemeTraces
from evaluation.fleet.world.session import DeviceTime
from evaluation.fleet.world.simulation import Effort, Load, Site, simulate
from evaluation.fleet.world.worker import WorkerTime

FEW = 0.05  # of the estimated capacity: where not even that many are served in time, none are
EFFORT = Effort(max_workers=1, num_answers=800, warm_up=2.0, least_seconds=4.0)
TOKENS_PER_PASS = 4  # of a scheme that drafts ahead, for the first estimate


def devices_per_worker(
    scheme: SchemeTraces, passes: PassTime, inputs: Inputs, *, draft: float, rate: float, target: float
) -> int | None:
    """Return how many devices have a p99 of `target` seconds; None if not even a few do.

    Each asks `rate` times a second and drafts a token in `draft` seconds; worker loop and broker are those of
    the fleet's inputs.
    """
    time = WorkerTime(passes, inputs.loop)
    site = Site(1, time, inputs.broker, num_brokers=1)

    def carries(count: int) -> bool:
        load = Load(count, rate, scheme, DeviceTime(draft))
        return simulate(load, site, EFFORT).meets(target)

    many = max(20, int(_sessions_per_second(scheme, time, site.limits.max_batch) / rate))
    enough = 0
    while carries(many):
        enough, many = many, 2 * many
    least = max(1, int(FEW * many))
    if not enough and not carries(least):
        return None
    enough = enough or least
    while many - enough > max(1, enough // 10):
        middle = (enough + many) // 2
        enough, many = (middle, many) if carries(middle) else (enough, middle)
    return enough


def _sessions_per_second(scheme: SchemeTraces, time: WorkerTime, batch: int) -> float:
    """An estimate: full batches, one after the other."""
    per_job = time.cycle(batch, TOKENS_PER_PASS * batch, batch) / batch
    jobs = scheme.mean_tokens if scheme.window == 1 else scheme.mean_tokens / TOKENS_PER_PASS
    return 1.0 / (per_job * max(1.0, jobs))
