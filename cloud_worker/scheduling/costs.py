"""What devices cost a worker, charged to them whatever it is made of, and what follows from it. Pure.

Law 5: a device is heavy while it uses more than its share of the worker, and light otherwise. A heavy one
loses nothing as long as no light one is active. Beside a light one it is served after it and in pieces, and
when the event loop has too much to do, its messages are dropped. Law 3: no text depends on any of this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cloud_worker.scheduling.allowances import Allowances
from cloud_worker.scheduling.prices import Prices
from cloud_worker.scheduling.virtual_clock import VirtualClock

WORK_SHARE = 0.75  # of each second, for all devices together: beyond it, someone has to wait
SINGLE_WEIGHT = 0.25  # of what a device with one session at a time costs: it waits for its answers
PROTECTED_SECONDS = 10.0  # after a light device was heard last
LOOP_SHARE = 0.25  # of each second of the event loop: passes need the interpreter, too
LOOP_BURST = 0.01  # seconds of the event loop that one device may owe
WHOLE_LOOP_BURST = 0.002  # and all together, before those that owe much are dropped
FULL_SHARE = 0.95  # of each second of the event loop: beyond it, messages pile up
FULL_BURST = 0.05
LONG_SHARE = 0.01  # of each second of the event loop, for what messages take beyond LONG_SECONDS each
LONG_SECONDS = 0.001  # a message that takes longer is long: all others wait for it
LIGHT_BURST = 0.01  # seconds of the worker that a light device may owe, apart from a few passes
LIGHT_PASSES = 2.0
RISE = 1 / 64  # of the seconds that a light task takes
MAX_SLOWDOWN = 50.0
EVERYONE = ""


class CostKind(StrEnum):
    """What a device has cost, as metrics label it."""

    READING = "reading"  # taking in and decoding its messages
    PLANNING = "planning"  # comparing its drafts with what its sessions hold, refusals included
    FORWARD = "forward"  # its part of forward passes
    JUDGING = "judging"
    ANSWERING = "answering"  # encoding and sending, refusals included
    COMPILING = "compiling"  # its grammars


LOOP_KINDS = (CostKind.READING, CostKind.PLANNING, CostKind.ANSWERING)


@dataclass(frozen=True, slots=True)
class Work:
    """A device's part of a pass: positions computed, rows judged, and the seconds of judging."""

    device: str
    num_positions: int
    num_rows: int
    judging_seconds: float
    is_single: bool = False  # the device had no other session at work or waiting


class Costs:
    """Charges, and the order and the limits that follow from them; times are in seconds."""

    def __init__(self, guess: float = 0.0) -> None:
        """`guess` as in `Prices`; 0: nothing is known of costs, and every task runs whole."""
        self.prices = Prices(guess)
        self.clock = VirtualClock()
        self._seconds = dict.fromkeys(CostKind, 0.0)
        self._work = Allowances(WORK_SHARE)
        self._loop = Allowances(LOOP_SHARE)
        self._whole_loop = Allowances(LOOP_SHARE)
        self._full_loop = Allowances(FULL_SHARE)
        self._long = Allowances(LONG_SHARE)
        self._slowdown = 1.0  # of the event loop, by what else runs on its processor
        self._light_at = float("-inf")  # when a light device was last heard
        self._light_task: float | None = None  # seconds that a short task of a light device takes

    @property
    def seconds(self) -> Mapping[CostKind, float]:
        """What all devices have cost together."""
        return self._seconds

    @property
    def num_active(self) -> int:
        """Devices heard or served in the last seconds."""
        return self._work.num_active

    @property
    def _light_cost(self) -> float:
        """What a light device pays for a short task."""
        return self.prices.fixed / self.num_active + (self._light_task or 0.0)

    @property
    def plain_pass(self) -> float:
        """The seconds that a light device's draft takes with no other one in the pass."""
        return self.prices.fixed + (self._light_task or 0.0)

    def hear(self, device: str, now: float) -> None:
        """A message has arrived."""
        self._work.hear(device, now)
        self._loop.hear(device, now)
        if self.is_light(device):
            self._light_at = now

    def charge(
        self, device: str, kind: CostKind, seconds: float, now: float, *, is_single: bool = False
    ) -> None:
        """A device has cost this much; `is_single`: it waits for its answer, so less counts against it."""
        weight = SINGLE_WEIGHT if is_single else 1.0
        self._seconds[kind] += seconds
        self.clock.charge(device, seconds)
        self._work.charge(device, weight * seconds, now)
        if kind in LOOP_KINDS:
            on_loop = seconds * self._slowdown
            self._loop.charge(device, weight * on_loop, now)
            self._whole_loop.charge(EVERYONE, weight * on_loop, now)
            self._full_loop.charge(EVERYONE, on_loop, now)
            self._long.charge(device, max(0.0, seconds - LONG_SECONDS), now)

    def charge_unserved(self, device: str, now: float) -> None:
        """A message was dropped: what it would have cost counts against its device, as far as is known.

        Otherwise a device that sends far more than its share would be light whenever enough was dropped.
        """
        self._work.charge(device, self._light_cost, now)

    def charge_pass(self, work: Sequence[Work], forward_seconds: float, now: float) -> None:
        """Charge a forward pass, and judging its rows, to the devices whose work it was.

        Each pays by its positions. A light device pays the fixed part of the pass as if all active devices
        had shared it: it is the worker's choice to run its task with few others.
        """
        num_positions = sum(one.num_positions for one in work)
        self.prices.observe_pass(num_positions, forward_seconds)
        light = [self.is_light(one.device) for one in work]
        for one, is_light in zip(work, light, strict=True):
            share = forward_seconds * one.num_positions / max(1, num_positions)
            own = self.prices.position * one.num_positions
            if is_light:
                share = min(share, own + self.prices.fixed / self.num_active)
                self._observe_light(own + one.judging_seconds)
            self.prices.observe_rows(one.device, one.num_rows, one.judging_seconds)
            self.charge(one.device, CostKind.FORWARD, share, now, is_single=one.is_single)
            self.charge(one.device, CostKind.JUDGING, one.judging_seconds, now, is_single=one.is_single)

    def _observe_light(self, seconds: float) -> None:
        """A short task counts at once and a long one hardly: hostile devices, too, are light at first."""
        usual = self._light_task or seconds
        self._light_task = min(seconds, usual + RISE * (min(seconds, 2 * usual) - usual))

    def observe_loop(self, processor_seconds: float, seconds: float) -> None:
        """The event loop took `seconds` for what needs this processor time: others use the processor, too."""
        if processor_seconds > 0.0:
            ratio = min(MAX_SLOWDOWN, max(1.0, seconds / processor_seconds))
            self._slowdown += RISE * (ratio - self._slowdown)

    def is_light(self, device: str) -> bool:
        """Whether a device stays within its share."""
        return self._work.debt(device) <= LIGHT_BURST + LIGHT_PASSES * self.plain_pass

    def protects(self, now: float) -> bool:
        """Whether a light device may send something any moment."""
        return self.num_active > 1 and now - self._light_at < PROTECTED_SECONDS

    def crowds(self, now: float) -> bool:
        """Whether messages keep the event loop so busy that it slows down the passes of light devices."""
        return self.protects(now) and self._is_loop_busy(now, is_protecting=True)

    def sheds(self, device: str, now: float) -> bool:
        """Whether messages of a device are dropped: the event loop is busy, and it is among the causes."""
        if self.num_active < 2:
            return False
        is_protecting = self.protects(now)
        if is_protecting and self._long.debt(device) > LOOP_BURST:
            return True
        return self._loop.debt(device) > LOOP_BURST and self._is_loop_busy(now, is_protecting=is_protecting)

    def _is_loop_busy(self, now: float, *, is_protecting: bool) -> bool:
        whole, burst = (
            (self._whole_loop, WHOLE_LOOP_BURST) if is_protecting else (self._full_loop, FULL_BURST)
        )
        whole.hear(EVERYONE, now)
        return whole.debt(EVERYONE) > burst
