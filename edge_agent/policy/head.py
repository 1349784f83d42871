"""The largest logits of a row, found in two passes over the vocabulary. Pure.

Law: every id that is not listed has a logit below `floor`. So what is computed from the listed ids is exact
for them, and what the others can add is bounded.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from common.sampling.distribution import IntArray, top_ids
from common.sampling.randomness import FloatArray

Logits: TypeAlias = npt.NDArray[np.floating]

NUM_COLUMNS = 1024
NUM_LISTED = NUM_COLUMNS // 2  # at least; about 1.4 times as many in a row without order
SMALL = 4 * NUM_COLUMNS  # rows up to this length are listed whole


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A row of `logits` [vocab_size] with its largest entries: `ids` ascending, and their `values`.

    `largest` is the row's maximum: NaN if any entry is, so it tells whether the row is finite.
    """

    logits: Logits
    largest: float
    ids: IntArray
    values: FloatArray
    floor: float

    @classmethod
    def of(cls, logits: "Logits | Head") -> "Head":
        """The head of a row; a head is its own."""
        if isinstance(logits, Head):
            return logits
        if len(logits) <= SMALL:
            largest = float(logits.max())
            return cls(logits, largest, np.arange(len(logits)), logits.astype(np.float64), -np.inf)
        maxima = _column_maxima(logits)
        largest, floor = float(maxima.max()), float(np.partition(maxima, -NUM_LISTED)[-NUM_LISTED])
        is_ruled = floor == -np.inf  # most ids have a logit of -inf, which rules them out
        ids = np.flatnonzero(logits > floor if is_ruled else logits >= floor)
        values = logits[ids].astype(np.float64)
        return cls(logits, largest, ids, values, float(values.min(initial=np.inf)) if is_ruled else floor)

    @property
    def is_whole(self) -> bool:
        """Whether every id is listed."""
        return len(self.ids) == len(self.logits)

    @property
    def first(self) -> int:
        """The id of the largest logit, the lowest of equals."""
        return int(self.ids[np.argmax(self.values)])

    def top(self, count: int) -> IntArray:
        """The ids of the `count` largest logits, ascending; of equals at the border the lowest."""
        if count >= len(self.logits):
            return np.arange(len(self.logits))
        if count > len(self.ids):
            return np.sort(top_ids(self.logits, count))
        return np.sort(self.ids[top_ids(self.values, count)])

    def at_least(self, floor: float) -> IntArray:
        """The ids whose logit is at least `floor`, ascending."""
        if floor >= self.floor:
            return self.ids[self.values >= floor]
        return np.flatnonzero(self.logits >= floor)


def _column_maxima(logits: Logits) -> Logits:
    """The largest of every NUM_COLUMNS-th logit, from each of the first NUM_COLUMNS on."""
    num_rest = len(logits) % NUM_COLUMNS
    maxima = logits[: len(logits) - num_rest].reshape(-1, NUM_COLUMNS).max(axis=0)
    np.maximum(maxima[:num_rest], logits[len(logits) - num_rest :], out=maxima[:num_rest])
    return maxima
