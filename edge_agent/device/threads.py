"""How many threads the draft model gets. Pure.

A thread on a slow core holds up all others at the end of every operator, and so does one that has to wait for
its core: four threads on two busy cores are eight times slower than one.
"""

from edge_agent.device.power import POWERS
from edge_agent.device.processor import Processor

MAX_THREADS = POWERS["full"].max_threads
SMALL_MODEL = 32 * 1024 * 1024  # bytes of weights below which one thread is the fastest


def choose_threads(
    processor: Processor, num_usable: int, load: float, model_bytes: int, most: int = MAX_THREADS
) -> int:
    """The big cores that are usable and not busy, at most `most`; one for a small model.

    `load` is the machine's load average: the tasks that want to run.
    """
    if model_bytes < SMALL_MODEL:
        return 1
    big = min(processor.num_big or num_usable, num_usable)
    return max(1, min(most, int(big - load + 0.5)))
