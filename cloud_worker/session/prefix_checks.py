"""The checksums of a sequence's prefixes, without reading the whole sequence for each. Pure.

Law: the same numbers as `prefix_check`. Every token is read once, and at most STEP more for each check, so
that a device gains nothing by sending wrong checks for a long context.
"""

from collections.abc import Sequence

from common.protocol.checksum import prefix_check

STEP = 1024  # tokens between two remembered checks


class PrefixChecks:
    """Remembers the check of every STEP tokens of one sequence; tell it when the sequence is cut."""

    def __init__(self) -> None:
        self._checks = [0]  # of the first 0, STEP, 2 STEP ... tokens

    def cut(self, length: int) -> None:
        """Only the first `length` tokens are still the same."""
        del self._checks[length // STEP + 1 :]

    def at(self, tokens: Sequence[int], length: int) -> int:
        """`prefix_check` of the first `length` tokens."""
        whole = length // STEP
        for index in range(len(self._checks), whole + 1):
            step = tokens[(index - 1) * STEP : index * STEP]
            self._checks.append(prefix_check(step, after=self._checks[-1]))
        return prefix_check(tokens[whole * STEP : length], after=self._checks[whole])
