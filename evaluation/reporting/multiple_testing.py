"""Holm's correction for many tests (Holm 1979): the chance of a single wrong claim stays bounded. Pure."""

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the adjusted p-values, in the order given: a claim holds at alpha where its own is below alpha.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none is smaller than one before it.
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
