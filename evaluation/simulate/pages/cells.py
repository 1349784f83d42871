"""The cells that both pages and the table of `compare` share."""

from evaluation.reporting.results import Cell
from evaluation.simulate.measures import Speed

CLOCKS = ("tokens/s", "mean of per-token rates")
SPEED_HEADINGS = (*CLOCKS, "B up/token", "B down/token", "uplinks/token", "answers/token", "first token (s)")


def speed_cells(speed: Speed) -> tuple[Cell, ...]:
    """Return the cells of SPEED_HEADINGS."""
    return (
        speed.tokens_per_second,
        speed.papers_rate,
        speed.bytes_up,
        speed.bytes_down,
        speed.uplinks,
        speed.answers,
        speed.first_token,
    )


def percent(share: float | None) -> str:
    """Format a share for a reader."""
    return "-" if share is None else f"{100 * share:.1f} %"
