"""Whether the tokens that are held should go up now, or one more token should join them. Pure.

Law: it only decides when drafts go up, so these rules may be as rough as the estimates that they go by.
"""

from edge_agent.session.plan import Plan, Times

VALUE_AHEAD = 0.5  # of what was drafted ahead: not all of it will be used
PRICE = 0.05  # seconds of waiting that save a second of the worker's or the device's work
SPACING = 0.5  # of a pass, between drafts in flight: the worker takes what waits together


def is_enough_alone(times: Times, plan: Plan, rejection: float, stands: float) -> bool:
    """With nothing in flight: whether the block is long enough, which stands with probability `stands`.

    One more token counts if all before it stand, and delays the answer by its drafting and its place in the
    pass. While the answer is awaited, tokens are drafted ahead, which are lost if the last one is rejected.
    """
    ahead = min(plan.most, (times.network + times.forward(plan.length)) / times.draft)
    saved = VALUE_AHEAD * plan.rate * times.draft * ahead
    gained = stands * max(0.1, 1.0 - rejection * saved)
    return gained <= plan.rate * (times.draft + times.slope)


def is_enough_for_later(times: Times, plan: Plan, stands: float) -> bool:
    """While an answer is awaited: whether one more token would cost the next pass more than it brings."""
    return stands <= plan.rate * times.slope


def is_enough_ahead(
    times: Times, rejection: float, num_held: int, stands: float, ahead: float, *, behind: bool
) -> bool:
    """In a pipeline: whether waiting any longer costs more than a message and a pass.

    `behind` means that others are in flight, which stand with probability `ahead`. Waiting delays the verdict
    on what is held, if those stand. A pass costs the worker's time, and delays the verdict on the next token.
    """
    forward = times.forward(num_held)
    if behind and num_held * times.draft < SPACING * forward:
        return False
    waiting = (1.0 - stands) * times.draft * max(1.0, num_held / 2)
    crowding = stands * rejection * max(0.0, forward - times.draft)
    return ahead * waiting >= ahead * crowding + PRICE * (forward + times.draft)
