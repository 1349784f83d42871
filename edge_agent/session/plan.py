"""When to send drafts, for the most tokens per second: a model of two ways to use a round trip. Pure.

    hold      one draft in flight. Drafting goes on meanwhile, and what was drafted goes up after the answer.
    pipeline  a draft goes up every few tokens, whether or not the one before it has been answered.

Where a pass is slow, each is worth filling, and what follows a rejection is lost: hold. Where the round trip
is long and a pass is quick, a pipeline learns of rejections sooner. Here every token is rejected with the
same probability; `sending` weighs those that are held one by one.
"""

from dataclasses import dataclass

LONGEST = 32  # tokens in a block
MARGIN = 0.98  # near a tie a pipeline wins: rejections come in groups, which this model does not know
CLOSE = 0.985  # of the best rate: then the longer block is taken, which costs fewer messages


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: of a draft token, of the link both ways, of a pass, and of each position in it."""

    draft: float
    network: float
    base: float
    slope: float

    def forward(self, num_positions: float) -> float:
        """Seconds of a pass."""
        return self.base + self.slope * num_positions


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks of `length`, or up to `most` where they were drafted ahead; `rate` is in tokens per second.

    `is_pipeline` means that blocks go up while others are in flight.
    """

    length: int
    most: int
    is_pipeline: bool
    rate: float


def best_plan(times: Times, rejection: float, *, drafts_ahead: bool) -> Plan:
    """The fastest plan; of those nearly as fast the one with the fewest messages.

    `drafts_ahead` False: nothing is drafted while an answer is awaited.
    """
    found = _best_hold(times, rejection, drafts_ahead=drafts_ahead)
    if not drafts_ahead:
        return found
    rates = {length: pipeline_rate(times, rejection, length) for length in range(1, LONGEST + 1)}
    best = max(rates.values())
    if best < MARGIN * found.rate:
        return found
    length = max(length for length, rate in rates.items() if rate >= CLOSE * best)
    return Plan(length, LONGEST, is_pipeline=True, rate=rates[length])


def _best_hold(times: Times, rejection: float, *, drafts_ahead: bool) -> Plan:
    """Choose the length after a rejection, then the most for a block that was drafted ahead."""

    def rate(length: int, most: int) -> float:
        return hold_rate(times, rejection, length, most if drafts_ahead else 0)

    length, most = 1, LONGEST
    for _ in range(2):
        length = max(range(1, most + 1), key=lambda one: rate(one, most))
        most = max(range(length, LONGEST + 1), key=lambda one: rate(length, one))
    return Plan(length, most, is_pipeline=False, rate=rate(length, most))


def hold_rate(times: Times, rejection: float, length: int, most: int) -> float:
    """Tokens per second with one draft in flight: blocks of `length`, or up to `most` drafted ahead."""
    keep = 1.0 - rejection
    first = length * times.draft + times.network + times.forward(length)
    ready = min(most, (times.network + times.forward(length)) / times.draft)
    later = max(float(length), ready)
    second = (later - ready) * times.draft + times.network + times.forward(later)
    accepted, accepted_later = keep**length, keep**later
    share = accepted / (1.0 - accepted_later + accepted)  # of blocks that follow an accepted one
    tokens = ((1 - share) * (1 - accepted) + share * (1 - accepted_later)) / rejection
    return tokens / ((1 - share) * first + share * second)


def pipeline_rate(times: Times, rejection: float, length: int) -> float:
    """Tokens per second when a block goes up every `length` tokens.

    A rejection is known after the wait for the rest of its block, the link and a pass; then the worker may
    still be busy with a block that is void.
    """
    forward = times.forward(length)
    spacing = max(length * times.draft, forward)
    void = forward / 2 * min(1.0, forward / spacing)
    lost = (length - 1) / 2 * times.draft + times.network + forward + void
    return 1.0 / (spacing / length + rejection * lost)
