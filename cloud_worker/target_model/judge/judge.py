"""The verdicts on a pass, from its rows in torch: what each row is asked, and where the answers go.

Law: the answers are those of `session.judging.Judging.answer`, which is the reference; they may differ where
a random number lies within rounding of what it is compared with (docs/method.md, 5). A row's answer does not
depend on the other rows of the pass (law 3): on a GPU, rows are judged in blocks of one size, and elsewhere
sums are split in the same way for every block. The host waits for a GPU once per pass.

On the CPU the reference itself judges where it is faster: numpy's float64 exponential takes half of torch's
time, and nothing behind a rejection is computed. Only the selection for a small top-k is faster in torch.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from cloud_worker.engines.engine import Part
from cloud_worker.scheduling.batch import Batch, Outcome
from cloud_worker.scheduling.retries import Unjudged
from cloud_worker.scheduling.task import Task
from cloud_worker.session.judging import Asked, Question, check_allowed, check_finite
from cloud_worker.target_model.judge.filtered import SHORT_HEAD, head_size, judge_filtered
from cloud_worker.target_model.judge.masks import forbid
from cloud_worker.target_model.judge.penalties import penalise
from cloud_worker.target_model.judge.plain import judge_plain
from cloud_worker.target_model.judge.table import Ask, Table, make_table
from common.sampling.distribution import Sampling
from common.sampling.mask import Mask

GREEDY, PLAIN, WHOLE = -1, 0, 1 << 30  # in place of the length of a head
BLOCK_ROWS = 64  # on a GPU; fewer are filled up
BLOCK_ENTRIES = 1 << 18  # at most on the CPU, unless a row has more: they stay in its cache
ANSWER, LARGEST, ALLOWED, SURE = range(4)  # the columns of what is found out about a row

Found = np.ndarray  # [4]


@dataclass(slots=True)
class _Judged:
    """A task with rows in this pass, and how far it is judged."""

    task: Task
    rows: torch.Tensor
    error: Exception | None = None
    seconds: float = 0.0

    @property
    def is_done(self) -> bool:
        return self.error is not None or self.task.judging.is_over

    def take(self, line: "_Line", found: Found) -> None:
        """Settle a question; whatever is wrong with its row is this task's own fault."""
        if self.error is not None:
            return
        try:
            if line.error is not None:
                raise line.error
            check_finite(float(found[LARGEST]), line.question.position)
            check = check_finite if line.mask is None else check_allowed
            check(float(found[ALLOWED]), line.question.position)
            self.task.judging.settle(line.question, float(found[ANSWER]))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other tasks have their verdicts
            self.error = error

    @property
    def outcome(self) -> Outcome:
        judging = self.task.judging
        if self.error is not None:
            return Unjudged(judging.judged, self.error)
        judging.pass_over(len(self.rows))
        return judging.judged if judging.is_complete else None


@dataclass(slots=True)
class _Line:
    """A row of a pass with its question, and the tokens that a grammar allows there (None: all)."""

    judged: _Judged
    question: Question
    mask: Mask | None = None
    error: Exception | None = None  # why there is no mask: it matters only if the row is needed

    @property
    def row(self) -> int:
        return self.judged.task.judging.row_of(self.question)

    def find_mask(self) -> None:
        """Ask the grammar; this may take as long as judging the row."""
        try:
            self.mask = self.judged.task.judging.mask(self.question.position)
        except Exception as error:  # noqa: BLE001 - it is this task's own
            self.error = error


class Judge:
    """Judges passes on the device that holds their rows."""

    def __init__(self, *, at_once: bool | None = None, always_in_torch: bool = False) -> None:
        """For tests: `at_once` judges as on a GPU, `always_in_torch` leaves to the reference what it must."""
        self._at_once = at_once
        self._always_in_torch = always_in_torch

    def parts(self, batch: Batch, rows: Sequence[torch.Tensor]) -> list[Part]:
        """What each task of a batch comes to, from the rows [num_rows, width] of its passes."""
        remaining = iter(rows)
        judged = [
            None if chunk is None else _Judged(task, next(remaining))
            for task, chunk in zip(batch.tasks, batch.chunks, strict=True)
        ]
        self._judge([each for each in judged if each is not None])
        return [
            Part(None, count, 0) if each is None else Part(each.outcome, count, len(each.rows), each.seconds)
            for each, count in zip(judged, batch.num_positions, strict=True)
        ]

    def _judge(self, judged: Sequence[_Judged]) -> None:
        lines: dict[tuple[int, int], list[_Line]] = {}
        for each in judged:
            questions = each.task.judging.asked(len(each.rows))
            opening = each.task.job.opening
            kind = opening.vocab_size, _kind(opening.sampling, opening.vocab_size)
            lines.setdefault(kind, []).extend(_Line(each, question) for question in questions)
        is_cuda = bool(judged) and judged[0].rows.device.type == "cuda"
        if is_cuda if self._at_once is None else self._at_once:
            _judge_all(lines)
            return
        for (_, kind), mine in lines.items():
            _judge_in_turn(mine, kind, in_torch=self._always_in_torch or kind == SHORT_HEAD)


def _judge_in_turn(lines: Sequence[_Line], kind: int, *, in_torch: bool) -> None:
    """Judge in the order of the text, so that nothing behind a rejection is."""
    if not in_torch:
        for line in lines:
            if not line.judged.is_done:
                line.judged.take(line, _reference(line))
        return
    waiting = iter(lines)
    while block := list(_some(waiting)):
        began = time.perf_counter()
        found = _look(block, kind).numpy()
        share = (time.perf_counter() - began) / len(block)
        for line, each in zip(block, found, strict=True):
            line.judged.seconds += share
            if not line.judged.is_done:
                line.judged.take(line, each if each[SURE] else _reference(line))


def _some(lines: Iterator[_Line]) -> Iterator[_Line]:
    """The next lines that are still wanted, as many as make a block."""
    num_entries = 0
    for line in lines:
        if not line.judged.is_done:
            yield line
            num_entries += line.judged.task.job.opening.vocab_size
            if num_entries + line.judged.task.job.opening.vocab_size > BLOCK_ENTRIES:
                return


def _reference(line: _Line) -> Found:
    """What the reference finds."""
    began = time.perf_counter()
    row = line.judged.rows[line.row].float().numpy()
    try:
        answer = line.judged.task.judging.answer(line.question, row)
    except Exception as error:  # noqa: BLE001 - it is this task's own
        line.judged.error = error
        answer = 0.0
    line.judged.seconds += time.perf_counter() - began
    return np.array([answer, 0.0, 0.0, 1.0])


def _judge_all(lines: dict[tuple[int, int], list[_Line]]) -> None:
    """Judge all rows at once; rows whose answer is not sure are looked at again, over all their ids."""
    began = time.perf_counter()
    order = [(line, kind) for (_, kind), mine in lines.items() for line in mine]
    found = _look_at_all((mine, kind) for (_, kind), mine in lines.items())
    again = [place for place, each in enumerate(found) if not each[SURE]]
    first = (time.perf_counter() - began) / max(1, len(order))
    began = time.perf_counter()
    second = 0.0
    if again:
        by_size: dict[int, list[int]] = {}
        for place in again:
            by_size.setdefault(order[place][0].judged.task.job.opening.vocab_size, []).append(place)
        for places in by_size.values():
            found[places] = _look_at_all([([order[place][0] for place in places], WHOLE)])
        second = (time.perf_counter() - began) / len(again)
    for (line, _), each in zip(order, found, strict=True):
        line.judged.seconds += first
        if not line.judged.is_done:
            line.judged.take(line, each)
    for place in again:
        order[place][0].judged.seconds += second


def _look_at_all(groups: Iterable[tuple[Sequence[_Line], int]]) -> Found:
    """What is found out about all rows [n, 4], in order; the host waits for the device here alone."""
    found = [
        _look(lines[at : at + BLOCK_ROWS], kind, BLOCK_ROWS)[: len(lines) - at]
        for lines, kind in groups
        for at in range(0, len(lines), BLOCK_ROWS)
    ]
    return torch.cat(found).cpu().numpy() if found else np.empty((0, 4))


def _kind(sampling: Sampling, vocab_size: int) -> int:
    """How rows are judged, by their own sampling alone."""
    if sampling.greedy:
        return GREEDY
    if 0 < sampling.top_k < vocab_size or sampling.top_p < 1.0:
        return head_size(sampling.top_k)
    return PLAIN


def _look(lines: Sequence[_Line], kind: int, num_rows: int = 0) -> torch.Tensor:
    """What is found out about rows of one kind, float64 [n, 4]; filled up to `num_rows`."""
    openings = [line.judged.task.job.opening for line in lines]
    vocab_size = openings[0].vocab_size
    rows = _gathered(lines, num_rows)[:, :vocab_size]
    largest = allowed = rows.amax(-1)  # NaN if any entry is
    for line in lines:
        if line.judged.task.job.masks is not None and line.mask is None and line.error is None:
            line.find_mask()
    if any(opening.sampling.has_penalties for opening in openings):
        rows = _penalised(rows, lines)
        allowed = rows.amax(-1)
    if any(line.mask is not None for line in lines):
        rows = forbid(rows, [*(line.mask for line in lines), *[None] * (len(rows) - len(lines))])
        allowed = rows.amax(-1)
    is_sure = torch.ones_like(allowed, dtype=torch.bool)
    asks = [Ask(line.question, opening) for line, opening in zip(lines, openings, strict=True)]
    table = make_table(asks, len(rows), rows.device)
    if kind == GREEDY:
        answers = _greedy(rows, table)
    elif kind == PLAIN:
        answers = judge_plain(rows, allowed, table)
    else:
        answers, is_sure = judge_filtered(rows, allowed, table, kind)
    return torch.stack([answers, largest.double(), allowed.double(), is_sure.double()], -1)


def _greedy(rows: torch.Tensor, table: Table) -> torch.Tensor:
    """All the mass lies on the largest logit, so that it replaces every other token."""
    chosen = rows.argmax(-1)
    is_prob = table["asked"] == Asked.PROB.value
    return torch.where(is_prob, (chosen == table["token"]).double(), chosen.double())


def _gathered(lines: Sequence[_Line], num_rows: int) -> torch.Tensor:
    """The rows of the lines, side by side, filled up by repeating the last one."""
    slices: list[torch.Tensor] = []
    begin = 0
    for end in range(1, len(lines) + 1):
        first, last = lines[begin], lines[end - 1]
        if end == len(lines) or lines[end].judged is not last.judged or lines[end].row != last.row + 1:
            slices.append(first.judged.rows[first.row : last.row + 1])
            begin = end
    if len(lines) < num_rows:
        slices.append(slices[-1][-1:].expand(num_rows - len(lines), -1))
    return slices[0] if len(slices) == 1 else torch.cat(slices)


def _penalised(rows: torch.Tensor, lines: Sequence[_Line]) -> torch.Tensor:
    """A float32 copy of the rows, with the penalties of each one's sequence."""
    rows = rows.to(torch.float32, copy=True)
    if rows.device.type == "cpu":
        for row, line in zip(rows.numpy(), lines, strict=False):  # the others fill up
            row[:] = line.judged.task.judging.penalised(row, line.question.position)
        return rows
    begin = 0
    for _, same in groupby(lines, key=lambda line: id(line.judged)):
        mine = list(same)
        job = mine[0].judged.task.job
        if job.opening.sampling.has_penalties:
            positions = [line.question.position for line in mine]
            view = rows[begin : begin + len(mine)]
            penalise(view, job.opening.sampling, job.tokens, job.opening.num_prompt, positions)
        begin += len(mine)
    return rows
