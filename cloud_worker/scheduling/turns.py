"""Who may take part in the next pass, in which order, and with how much. Pure.

Law 5: devices come in the order of the virtual clock. While a light device is active, heavy ones come after
all light ones and share a room that keeps the pass about as short as a light device's own. The first task
always runs, if only a piece of it, so that every task comes to its end.
"""

import heapq
import math
from collections.abc import Iterator

from cloud_worker.scheduling.costs import Costs
from cloud_worker.scheduling.fair_queue import FairQueue, SessionKey
from cloud_worker.scheduling.task import Task
from cloud_worker.session.job import Job

LIGHT_ROOM = 2.0  # plain passes that one task of a light device may take at once, while others are active
LONG_ROOM = 3.0  # plain passes for all tasks of light devices that take longer than a plain pass
HEAVY_ROOM = 1.0  # plain passes that heavy devices may add to a pass of their own
SHARED_ROOM = 0.25  # the same in a pass with a light one
PASS_SECONDS = 0.1  # that a pass may take beside no light device: one may arrive any moment
PASS_FIXED = 4.0  # the same in multiples of what a pass takes at least
TASK_SECONDS = 2e-4  # of a worker around a task's positions and rows


class Turns:
    """The turns of one batch: iterate, and ask for the `room` of each task that comes of it."""

    def __init__(self, queue: FairQueue, costs: Costs, now: float) -> None:
        self._queue = queue
        self._costs = costs
        self._is_protecting = costs.protects(now)
        self._num_taken = 0
        self._spent = 0.0  # on heavy tasks
        self._spent_on_long = 0.0  # on long tasks of light devices
        self._has_light = False

    def __iter__(self) -> Iterator[SessionKey]:
        """Sessions that wait, each taken from the queue; each device's tasks so far count as usual ones."""
        clock, usual = self._costs.clock, self._costs.plain_pass
        heap = [
            (self._is_heavy(device), clock.start(device), index, device)
            for index, device in enumerate(self._queue.devices)
        ]
        heapq.heapify(heap)
        clock.go_to(min((start for _, start, _, _ in heap), default=0.0))
        index = len(heap)
        while heap:
            is_heavy, start, _, device = heap[0]
            yield self._queue.take_from(device)
            if self._queue.num_waiting(device):
                heapq.heapreplace(heap, (is_heavy, start + usual, index, device))
                index += 1
            else:
                heapq.heappop(heap)

    def room(self, task: Task) -> int | None:
        """How many positions of a task may run now: None for all, 0 to leave the task for another pass."""
        costs, device = self._costs, task.key.device
        one = costs.prices.position + costs.prices.row(device)
        if one <= 0.0:
            return None
        is_first = self._num_taken == 0
        self._num_taken += 1
        if self._is_protecting and costs.is_light(device):
            self._has_light = True
            return self._light_room(task, one)
        left = self._room() - self._spent - TASK_SECONDS
        wanted = num_positions(task.job) - task.judging.num_rows
        count = min(wanted, max(0, math.floor(left / one)))
        self._spent += TASK_SECONDS + count * one
        return max(count, int(is_first))

    def _light_room(self, task: Task, one: float) -> int:
        """Short tasks run whole. Long ones, such as prompts, share the pass: many may come at once.

        Each runs at least in part. To leave it for another pass would end the batch before short ones.
        """
        plain = self._costs.plain_pass
        room = min(LIGHT_ROOM * plain, self._longest())
        wanted = num_positions(task.job) - task.judging.num_rows
        if wanted * one <= plain:
            return max(1, int(room / one))
        count = int(min(room, LONG_ROOM * plain - self._spent_on_long) / one)
        count = max(1, min(wanted, count))
        self._spent_on_long += count * one
        return count

    def _room(self) -> float:
        """The seconds for all tasks that are not of a protected device."""
        if not self._is_protecting:
            return self._longest()
        return min(self._costs.plain_pass * (SHARED_ROOM if self._has_light else HEAVY_ROOM), self._longest())

    def _longest(self) -> float:
        return max(PASS_SECONDS, PASS_FIXED * self._costs.prices.fixed)

    def _is_heavy(self, device: str) -> bool:
        return self._is_protecting and not self._costs.is_light(device)


def num_positions(job: Job) -> int:
    """The most positions that a job makes the model compute, if it has cached what came before."""
    if not job.drafts:
        return job.num_rows
    if job.drafts[0].opening is not None:
        return len(job.tokens)
    return max(job.num_rows, len(job.tokens) - job.drafts[0].base + 1)
