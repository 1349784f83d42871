"""How long to wait for a correction before asking again: the estimator of RFC 6298. Pure.

A deadline that is too short costs a repeated message, never a wrong token; too long costs waiting.
"""

from dataclasses import dataclass

SMOOTHING = 1 / 8
VARIATION_SMOOTHING = 1 / 4
LEAST_MARGIN = 1 / 2  # of the round trip: on a long, steady link the variation vanishes (RFC 6298's G)
MAX_DOUBLINGS = 30  # more would overflow a float after hours of asking


@dataclass(slots=True)
class RoundTrip:
    """Smoothed round-trip time and its variation, in seconds."""

    first_timeout: float
    min_timeout: float
    max_timeout: float
    smoothed: float | None = None
    variation: float = 0.0
    num_doublings: int = 0  # of the first timeout

    def back_off(self) -> None:
        """A message had to be repeated: double the first timeout until one is answered that was sent once.

        Otherwise a worker that has become slow would be asked twice each time, and nothing would be measured.
        """
        self.num_doublings = min(self.num_doublings + 1, MAX_DOUBLINGS)

    def observe(self, seconds: float) -> None:
        """Take in one measured round trip of a message that was sent once (Karn's rule)."""
        self.num_doublings = 0
        if self.smoothed is None:
            self.smoothed, self.variation = seconds, seconds / 2
            return
        deviation = abs(self.smoothed - seconds)
        self.variation += VARIATION_SMOOTHING * (deviation - self.variation)
        self.smoothed += SMOOTHING * (seconds - self.smoothed)

    def timeout(self, num_tries: int, *, whole_context: bool) -> float:
        """Seconds to wait after sending for the `num_tries`-th time; doubles each time.

        A worker that gets the whole context must first read it, which no earlier round trip tells about: so
        the first timeout is the least to wait for such an answer.
        """
        if self.smoothed is None:
            estimate = self.first_timeout
        else:
            estimate = self.smoothed + max(4 * self.variation, LEAST_MARGIN * self.smoothed)
        least = self.first_timeout if whole_context else self.min_timeout
        num_doublings = self.num_doublings if num_tries == 1 else min(num_tries - 1, MAX_DOUBLINGS)
        return min(self.max_timeout, max(least, estimate) * 2**num_doublings)
