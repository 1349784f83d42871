"""How long bytes take: fixed, fading and recorded rates, delay and jitter. Pure.

Law: a channel is a function of its numbers and its seed. Its capacity at a time does not depend on what is
sent, so all schemes in a sweep meet the same fades.
"""

import csv
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from common.sampling.randomness import FloatArray

COHERENCE_SECONDS = 0.05  # of fading: walking pace at 2 GHz (0.423 / Doppler shift of 9 Hz)
MIN_TRACE_MBPS = 0.01  # so that gaps in a trace are slow but end
_CHUNK = 4096  # blocks of fading drawn at a time


class Rate(Protocol):
    """Capacity over time."""

    def finish(self, num_bits: float, start: float) -> float:
        """Return when the last of `num_bits` has been sent, if the first is sent at `start` (seconds)."""
        ...


@dataclass(frozen=True, slots=True)
class FixedRate:
    """A constant rate; infinite for a link without a limit."""

    bits_per_second: float = math.inf

    def finish(self, num_bits: float, start: float) -> float:
        """See `Rate`."""
        return start + num_bits / self.bits_per_second


class SteppedRate(ABC):
    """A rate that is constant within blocks of equal length; subclasses return what each block carries."""

    def __init__(self, block_seconds: float) -> None:
        self._block = block_seconds
        self._sums = np.zeros(1)  # bits sent from time 0 to the end of each block

    @abstractmethod
    def bits_of_blocks(self, first: int, count: int) -> FloatArray:
        """Return the bits that the blocks [first, first + count) carry."""

    def finish(self, num_bits: float, start: float) -> float:
        """See `Rate`."""
        wanted = self._sent_until(start) + num_bits
        while self._sums[-1] <= wanted:
            self._grow()
        block = int(np.searchsorted(self._sums, wanted, side="right")) - 1
        share = (wanted - self._sums[block]) / (self._sums[block + 1] - self._sums[block])
        return max(start, (block + share) * self._block)

    def _sent_until(self, time: float) -> float:
        block = int(time / self._block)
        while len(self._sums) < block + 2:
            self._grow()
        share = time / self._block - block
        return float(self._sums[block] + share * (self._sums[block + 1] - self._sums[block]))

    def _grow(self) -> None:
        more = self.bits_of_blocks(len(self._sums) - 1, _CHUNK)
        self._sums = np.concatenate([self._sums, self._sums[-1] + np.cumsum(more)])


class FadingRate(SteppedRate):
    """W log2(1 + g SNR) with Rayleigh block fading: each block draws g, exponential with mean 1.

    This is the channel of the papers (arXiv 2412.12687, 2505.11788), which give no coherence time. Without
    fading g is 1.
    """

    def __init__(
        self,
        bandwidth_hz: float,
        snr_db: float,
        seed: int,
        *,
        fading: bool = True,
        coherence: float = COHERENCE_SECONDS,
    ) -> None:
        super().__init__(coherence)
        self._bandwidth, self._snr = bandwidth_hz, 10 ** (snr_db / 10)
        self._seed, self._fading = seed, fading

    def bits_of_blocks(self, first: int, count: int) -> FloatArray:
        """Bits of each block."""
        gains = np.ones(count)
        if self._fading:
            gains = np.random.default_rng([self._seed, first]).exponential(size=count)
        return self._bandwidth * np.log2(1 + gains * self._snr) * self._block


class TraceRate(SteppedRate):
    """A recorded capacity that repeats; time 0 is at `offset` seconds of the recording."""

    def __init__(self, times: Sequence[float], mbps: Sequence[float], offset: float = 0.0) -> None:
        """`mbps[i]` applies from `times[i]` on; ValueError unless the times ascend."""
        steps = np.diff(times)
        if len(times) < 2 or len(times) != len(mbps) or not (steps > 0).all():
            raise ValueError("a trace needs at least two times, ascending, each with its mbps")
        super().__init__(float(steps.min()))
        period = times[-1] - times[0] + float(steps[-1])
        grid = np.arange(0.0, period - self._block / 2, self._block) + times[0]
        held = np.searchsorted(times, grid + 1e-9, side="right") - 1
        mbps_of_blocks = np.maximum(MIN_TRACE_MBPS, np.asarray(mbps, float)[held])
        self._bits = np.roll(1e6 * mbps_of_blocks * self._block, -round(offset / self._block))

    @classmethod
    def read(cls, lines: Iterable[str], offset: float = 0.0) -> "TraceRate":
        """Read the lines of a CSV file with the columns t_s and ul_mbps; ValueError if they are missing."""
        try:
            rows = [(float(row["t_s"]), float(row["ul_mbps"])) for row in csv.DictReader(lines)]
        except (KeyError, TypeError) as error:
            raise ValueError("a trace is a CSV file with the columns t_s and ul_mbps") from error
        return cls([time for time, _ in rows], [mbps for _, mbps in rows], offset)

    def bits_of_blocks(self, first: int, count: int) -> FloatArray:
        """Bits of each block."""
        return self._bits[np.arange(first, first + count) % len(self._bits)]


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of a link, in seconds; the jitter is uniform and added to the delay. Order is kept."""

    rate: Rate = field(default_factory=FixedRate)
    delay: float = 0.0
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Channel:
    """The link between one device and the broker."""

    up: Direction = field(default_factory=Direction)
    down: Direction = field(default_factory=Direction)
    seed: int = 0  # of the jitter


class Line:
    """The state of one direction: messages are sent one after another and arrive in order."""

    def __init__(self, direction: Direction, seed: int) -> None:
        self._direction = direction
        self._jitter = np.random.default_rng([seed, 0x1175E5])
        self._free_at = 0.0
        self._last_arrival = 0.0

    def send(self, num_bytes: float, now: float) -> float:
        """Return when a message that is sent `now` arrives."""
        self._free_at = self._direction.rate.finish(8 * num_bytes, max(now, self._free_at))
        late = self._direction.jitter * self._jitter.random() if self._direction.jitter else 0.0
        self._last_arrival = max(self._last_arrival, self._free_at + self._direction.delay + late)
        return self._last_arrival
