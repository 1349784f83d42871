"""The agreement of two texts: 1 - edit distance / length of the longer one, in tokens. Pure."""

from collections.abc import Sequence


def edit_distance(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens must be replaced, inserted or removed (Levenshtein)."""
    costs = list(range(len(second) + 1))
    for row, one in enumerate(first, 1):
        before, costs[0] = costs[0], row
        for column, other in enumerate(second, 1):
            replaced = before + (one != other)
            before = costs[column]
            costs[column] = min(replaced, before + 1, costs[column - 1] + 1)
    return costs[-1]


def agreement(edits: int, first: int, second: int) -> float:
    """Return 1 for equal texts, 0 for texts with nothing in common, from their distance and lengths."""
    return 1.0 - edits / max(1, first, second)
