"""What the rows of a block are asked, as columns: made on the host, and copied to the device at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from cloud_worker.session.judging import Asked, Question
from cloud_worker.target_model.arrays import to_device
from common.protocol.messages import Opening
from common.sampling.distribution import Dense, Lattice, TopK

FLOATS = ("temperature", "top_p", "min_p", "sent_prob", "rest")
INTEGERS = ("seed", "position", "token", "top_k", "asked")
SIGN_BIT = 1 << 63


@dataclass(frozen=True, slots=True)
class Ask:
    """A question and the opening of its sequence."""

    question: Question
    opening: Opening


@dataclass(frozen=True, slots=True)
class Listed:
    """The ids of truncated distributions: the one in row rows[i] gives ids[i] the probability probs[i]."""

    rows: torch.Tensor
    ids: torch.Tensor
    probs: torch.Tensor


@dataclass(frozen=True, slots=True)
class Whole:
    """Distributions that are sent whole: float16 weights [k, vocab_size] of k rows, and totals [k, 1]."""

    rows: torch.Tensor
    weights: torch.Tensor
    totals: torch.Tensor


@dataclass(frozen=True, slots=True)
class Table:
    """Columns [n], one entry per row, by name; and the draft tokens' distributions."""

    columns: dict[str, torch.Tensor]
    seeds: Sequence[int]
    asked: Sequence[Asked]
    listed: Listed
    whole: Whole | None
    vocab_size: int
    has_rest: bool  # whether a distribution gives ids that it does not list a probability
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

    def part(self, rows: Sequence[int], index: torch.Tensor) -> "Table":
        """The columns of some rows, without distributions; `index` has the same rows on the device."""
        columns = {name: column.index_select(0, index) for name, column in self.columns.items()}
        seeds, asked = [self.seeds[row] for row in rows], [self.asked[row] for row in rows]
        return replace(self, columns=columns, seeds=seeds, asked=asked, whole=None)

    def draft_prob(self) -> torch.Tensor:
        """The probability [n] with which each draft token was drawn; 1 in rows without one."""
        listed, token = self.listed, self["token"]
        mine = torch.where(listed.ids == token.index_select(0, listed.rows), listed.probs, 0.0)
        found = torch.zeros_like(self["rest"]).index_add_(0, listed.rows, mine)
        if self.whole is not None:
            tokens = token.index_select(0, self.whole.rows)[:, None]
            drawn = self.whole.weights.gather(1, tokens).double() / self.whole.totals
            found = found.index_copy(0, self.whole.rows, drawn[:, 0])
        return torch.where(self["sent_prob"] > 0.0, self["sent_prob"], found)

    def draft_probs(self, width: int) -> torch.Tensor:
        """The distributions [n, width] that the draft tokens were drawn from; 0 in rows without one."""
        probs = self.column("rest").repeat(1, width)
        if self.whole is not None:
            dense = torch.nn.functional.pad(
                self.whole.weights.double() / self.whole.totals, (0, width - self.whole.weights.shape[1])
            )
            probs.index_copy_(0, self.whole.rows, dense)
        probs[self.listed.rows, self.listed.ids] = self.listed.probs
        return probs


def make_table(asks: Sequence[Ask], num_rows: int, device: torch.device) -> Table:
    """The table of some questions, filled up to `num_rows` rows that no one needs."""
    num_fillers = num_rows - len(asks)
    samplings = [ask.opening.sampling for ask in asks]
    seeds = [ask.opening.seed for ask in asks] + [0] * num_fillers
    asked = [ask.question.asked for ask in asks] + [Asked.PROB] * num_fillers
    sent_probs, rests = np.ones(num_rows), np.zeros(num_rows)
    lists: list[tuple[int, np.ndarray, np.ndarray]] = []
    dense: dict[int, np.ndarray] = {}
    lattices: list[np.ndarray] = []
    others: list[np.ndarray] = []
    for row, ask in enumerate(asks):
        form = ask.question.draft.distribution if ask.question.draft is not None else None
        if isinstance(form, Lattice):
            sent_probs[row] = 0.0
            lists.insert(len(lattices), (row, form.ids, form.counts))
            lattices.append(form.counts)
        elif isinstance(form, TopK):
            kept, rests[row] = form.spread(ask.opening.vocab_size)
            sent_probs[row] = form.draft_prob
            lists.append((row, form.ids, kept))
            others.append(kept)
        elif isinstance(form, Dense):
            sent_probs[row] = 0.0
            dense[row] = form.weights
    floats = np.array(
        [
            _filled([each.temperature for each in samplings], 1.0, num_fillers),
            _filled([each.top_p for each in samplings], 1.0, num_fillers),
            _filled([each.min_p for each in samplings], 0.0, num_fillers),
            sent_probs,
            rests,
        ]
    )
    integers = np.array(
        [
            [seed - 2 * SIGN_BIT if seed >= SIGN_BIT else seed for seed in seeds],
            _filled([ask.question.position for ask in asks], 0, num_fillers),
            _filled([ask.question.token or 0 for ask in asks], 0, num_fillers),
            _filled([each.top_k for each in samplings], samplings[0].top_k, num_fillers),
            [each.value for each in asked],
        ],
        np.int64,
    )
    columns, listed = _sent(floats, integers, lists, [*map(_lattice_probs, lattices), *others], device)
    vocab_size = asks[0].opening.vocab_size
    return Table(
        columns=columns,
        seeds=seeds,
        asked=asked,
        listed=listed,
        whole=_whole(dense, device) if dense else None,
        vocab_size=vocab_size,
        has_rest=bool(others),
        has_unlimited=not all(0 < each.top_k < vocab_size for each in samplings),
        has_min_p=any(each.min_p > 0.0 for each in samplings),
    )


def _filled(values: list[float] | list[int], filler: float, count: int) -> list[float]:
    return [*values, *[filler] * count]


def _lattice_probs(counts: np.ndarray) -> np.ndarray:
    return counts / counts.sum()


def _sent(
    floats: np.ndarray,
    integers: np.ndarray,
    lists: Sequence[tuple[int, np.ndarray, np.ndarray]],
    probs: Sequence[np.ndarray],
    device: torch.device,
) -> tuple[dict[str, torch.Tensor], Listed]:
    """Columns and lists on the device, in one copy; floats travel as the integers of the same bits."""
    lengths = [len(ids) for _, ids, _ in lists]
    rows = np.repeat(np.array([row for row, *_ in lists], np.int64), lengths)
    ids = np.concatenate([np.empty(0, np.int64), *[ids for _, ids, _ in lists]])
    listed = np.concatenate([np.empty(0), *probs])
    num = floats.shape[1]
    parts = [floats.view(np.int64).ravel(), integers.ravel(), rows, ids, listed.view(np.int64)]
    sent = to_device(torch.from_numpy(np.concatenate(parts)), device)
    sizes = [num * len(FLOATS), num * len(INTEGERS), *[len(rows)] * 3]
    float_rows, integer_rows, sent_rows, sent_ids, sent_probs = sent.split(sizes)
    columns: dict[str, torch.Tensor] = {}
    columns |= zip(FLOATS, float_rows.view(torch.float64).view(-1, num), strict=True)
    columns |= zip(INTEGERS, integer_rows.view(-1, num), strict=True)
    return columns, Listed(sent_rows, sent_ids, sent_probs.view(torch.float64))


def _whole(dense: dict[int, np.ndarray], device: torch.device) -> Whole:
    rows = to_device(torch.tensor(list(dense)), device)
    weights = to_device(torch.from_numpy(np.stack(list(dense.values()))), device)
    return Whole(rows, weights, weights.double().sum(-1, keepdim=True))
