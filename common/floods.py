"""Which of many equal events are logged, so that a flood of them does not flood the log. Pure."""


def is_logged(count: int) -> bool:
    """Whether the event with this number is: the 1st, 2nd, 4th, 8th ..."""
    return count & (count - 1) == 0
