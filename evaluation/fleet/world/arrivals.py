"""When sessions begin: Poisson, or in bursts. Pure: the generator of random numbers is an argument.

Many devices that each ask seldom are together a Poisson process (Palm's theorem), so an idle device costs a
simulation nothing. Bursts are a two-state Markov-modulated Poisson process with the same mean rate.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`rate` sessions a second on average; in a burst `burst` times as many.

    A burst lasts `burst_seconds` on average and a tenth of all time is burst.
    """

    rate: float
    burst: float = 1.0
    burst_seconds: float = 5.0

    SHARE = 0.1

    def __post_init__(self) -> None:
        if not 1.0 <= self.burst <= 1 / self.SHARE:
            raise ValueError(f"a burst is 1 to {1 / self.SHARE:.0f} times the mean rate, not {self.burst}")

    def gaps(self, rng: random.Random) -> Iterator[float]:
        """Seconds between one session's begin and the next, without end."""
        if self.burst == 1.0:
            while True:
                yield rng.expovariate(self.rate)
        yield from self._bursty(rng)

    def _bursty(self, rng: random.Random) -> Iterator[float]:
        high = self.burst * self.rate
        low = self.rate * (1 - self.SHARE * self.burst) / (1 - self.SHARE)
        lengths = {True: self.burst_seconds, False: self.burst_seconds * (1 - self.SHARE) / self.SHARE}
        in_burst = rng.random() < self.SHARE
        left, waited = rng.expovariate(1 / lengths[in_burst]), 0.0
        while True:
            rate = high if in_burst else low
            gap = rng.expovariate(rate) if rate > 0 else float("inf")
            if gap < left:
                left -= gap
                yield waited + gap
                waited = 0.0
                continue
            waited += left  # without memory: what was drawn for the old state is void
            in_burst = not in_burst
            left = rng.expovariate(1 / lengths[in_burst])
