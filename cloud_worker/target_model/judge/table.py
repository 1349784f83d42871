"""What the rows of a block are asked, as columns: made on the host, and copied to the device at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cloud_worker.session.judging import Asked, Question
from cloud_worker.target_model.arrays import to_device
from common.protocol.messages import Opening
from common.sampling.distribution import Lattice, TopK
from common.sampling.randomness import Purpose, uniform

FLOATS = ("temperature", "top_p", "min_p", "draft_prob", "accept", "resample", "rest", "weight_total")
INTEGERS = ("seed", "position", "token", "top_k", "asked")
SIGN_BIT = 1 << 63


@dataclass(frozen=True, slots=True)
class Ask:
    """A question, the opening of its sequence, and the number of its row in the pass."""

    question: Question
    opening: Opening
    row: int


@dataclass(frozen=True, slots=True)
class Table:
    """Columns [n], one entry per row, by name; and the draft tokens' distributions."""

    columns: dict[str, torch.Tensor]
    listed: tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # rows, ids and probabilities of truncated ones
    dense: torch.Tensor | None  # float16 weights [n, vocab_size]; 0 in rows with another form
    asked: Sequence[Asked]
    vocab_size: int
    has_unlimited: bool  # whether a row has no top-k
    has_min_p: bool

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.columns[name]

    def column(self, name: str) -> torch.Tensor:
        """A column to be set beside rows, [n, 1]."""
        return self.columns[name][:, None]

    def rows_asked(self, *wanted: Asked) -> list[int]:
        """The rows that are asked for one of these."""
        return [row for row, asked in enumerate(self.asked) if asked in wanted]

    def draft_probs(self, width: int) -> torch.Tensor:
        """The distributions [n, width] that the draft tokens were drawn from; 0 in rows without one."""
        probs = self.column("rest").repeat(1, width)
        if self.dense is not None:
            probs[:, : self.dense.shape[1]] += self.dense.double() / self.column("weight_total")
        rows, ids, listed = self.listed
        probs[rows, ids] = listed
        return probs


def make_table(asks: Sequence[Ask], device: torch.device) -> Table:
    """The table of some questions, on a device; pinned and copied without waiting where that is a GPU."""
    floats = np.ones((len(FLOATS), len(asks)))
    floats[FLOATS.index("rest")] = 0.0
    integers = np.zeros((len(INTEGERS), len(asks)), np.int64)
    listed: list[tuple[int, np.ndarray, np.ndarray]] = []
    dense: dict[int, np.ndarray] = {}
    for row, (question, opening) in enumerate((ask.question, ask.opening) for ask in asks):
        sampling, seed, position = opening.sampling, opening.seed, question.position
        integers[:, row] = (
            seed - 2 * SIGN_BIT if seed >= SIGN_BIT else seed,
            position,
            question.token or 0,
            sampling.top_k,
            question.asked.value,
        )
        floats[:3, row] = sampling.temperature, sampling.top_p, sampling.min_p
        form = question.draft.distribution if question.draft is not None else None
        if question.draft is None or form is None:
            continue
        floats[3:6, row] = (
            form.prob(question.draft.token),
            uniform(seed, position, Purpose.ACCEPT),
            uniform(seed, position, Purpose.RESAMPLE),
        )
        if isinstance(form, Lattice):
            listed.append((row, form.ids, form.counts / form.total))
        elif isinstance(form, TopK):
            kept, rest = form.spread(opening.vocab_size)
            floats[6, row] = rest
            listed.append((row, form.ids, kept))
        else:
            weights = form.weights
            floats[7, row] = weights.astype(np.float64).sum()
            dense[row] = weights
    return _on_device(asks, floats, integers, listed, dense, device)


def _on_device(
    asks: Sequence[Ask],
    floats: np.ndarray,
    integers: np.ndarray,
    listed: Sequence[tuple[int, np.ndarray, np.ndarray]],
    dense: dict[int, np.ndarray],
    device: torch.device,
) -> Table:
    num = len(asks)
    rows = np.concatenate([np.empty(0, np.int64), *[np.full(len(ids), row) for row, ids, _ in listed]])
    ids = np.concatenate([np.empty(0, np.int64), *[ids for _, ids, _ in listed]])
    probs = np.concatenate([np.empty(0), *[probs for _, _, probs in listed]])
    parts = [floats.view(np.int64).ravel(), integers.ravel(), rows, ids, probs.view(np.int64)]
    both = to_device(torch.from_numpy(np.concatenate(parts)), device)
    head, tail = both[: num * (len(FLOATS) + len(INTEGERS))], both[num * (len(FLOATS) + len(INTEGERS)) :]
    float_rows = head[: num * len(FLOATS)].view(torch.float64).view(len(FLOATS), num)
    integer_rows = head[num * len(FLOATS) :].view(len(INTEGERS), num)
    columns: dict[str, torch.Tensor] = {}
    columns |= zip(FLOATS, float_rows, strict=True)
    columns |= zip(INTEGERS, integer_rows, strict=True)
    count = len(rows)
    entries = tail[:count], tail[count : 2 * count], tail[2 * count :].view(torch.float64)
    weights = None
    if dense:
        stacked = np.zeros((num, len(next(iter(dense.values())))), np.float16)
        for row, given in dense.items():
            stacked[row] = given
        weights = to_device(torch.from_numpy(stacked), device)
    vocab_size = asks[0].opening.vocab_size
    has_unlimited = not all(0 < ask.opening.sampling.top_k < vocab_size for ask in asks)
    asked = [ask.question.asked for ask in asks]
    has_min_p = any(ask.opening.sampling.min_p > 0.0 for ask in asks)
    return Table(columns, entries, weights, asked, vocab_size, has_unlimited, has_min_p)
