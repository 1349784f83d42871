"""Judging in torch: the verdicts of the reference, whatever the form, the sampling and the batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cloud_worker.scheduling.batch import Outcome
from cloud_worker.scheduling.task import Task
from cloud_worker.session.job import Job, Rows
from cloud_worker.session.judging import Asked, Judging, Question
from cloud_worker.target_model.judge import Judge
from cloud_worker.target_model.judge.coupling import gumbel_noise, uniforms
from cloud_worker.target_model.judge.draws import COLUMNS, draw, padded_width
from cloud_worker.target_model.judge.kernels import words_in_torch
from cloud_worker.target_model.judge.penalties import penalise
from cloud_worker.target_model.judge.table import Ask, make_table
from common.protocol.messages import Opening
from common.sampling.distribution import Sampling
from common.sampling.penalties import Penalties
from common.sampling.randomness import Purpose, coupling_words, uniform
from common.sampling.randomness import gumbel_noise as reference_noise
from tests.support.judged_rows import (
    FORMS,
    SAMPLINGS,
    EveryThird,
    batch_of,
    many_jobs,
    plain,
    random_job,
    tasks_of,
)

DEVICES = [
    "cpu",
    "cpu at once",  # as on a GPU
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


def reference(job: Job, rows: Rows) -> object:
    return plain(batch_of(tasks_of([job])).judged([rows])[0])


def judged(
    jobs: list[Job], rows: list[Rows], device: str, dtype: torch.dtype = torch.float32
) -> list[Outcome]:
    return outcomes(tasks_of(jobs), rows, device, dtype)


def outcomes(
    tasks: list[Task], rows: list[Rows], device: str, dtype: torch.dtype = torch.float32
) -> list[Outcome]:
    name, _, at_once = device.partition(" ")
    with torch.inference_mode():
        given = [torch.from_numpy(each).to(name, dtype) for each in rows]
        judge = Judge(at_once=True if at_once else None, always_in_torch=True)
        return [part.outcome for part in judge.parts(batch_of(tasks), given)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("vocab_size", "count"), [(40, 12), (1500, 5), (5000, 1)])
def test_torch_gives_the_verdicts_of_the_reference(device: str, vocab_size: int, count: int) -> None:
    """Thousands of rows: a difference needs two numbers within 1e-12 of each other, so there is none."""
    names, jobs, rows = zip(*many_jobs(vocab_size, vocab_size, count), strict=True)
    found = judged(list(jobs), list(rows), device)
    assert len(found) == count * len(FORMS) * len(SAMPLINGS)
    for name, job, each, outcome in zip(names, jobs, rows, found, strict=True):
        assert plain(outcome) == reference(job, each), name


@pytest.mark.parametrize("device", DEVICES)
def test_a_grammar_forbids_the_same_tokens(device: str) -> None:
    draw = np.random.default_rng(8)
    for vocab_size in (97, 2100):
        for name, sampling in SAMPLINGS.items():
            made = [random_job(draw, vocab_size, sampling, form, masked=True) for form in FORMS]
            found = judged([job for job, _ in made], [rows for _, rows in made], device)
            expected = [reference(job, rows) for job, rows in made]
            assert [plain(outcome) for outcome in found] == expected, name


@pytest.mark.parametrize("device", DEVICES)
def test_a_context_that_breaks_its_grammar_is_that_tasks_own_fault(device: str) -> None:
    draw = np.random.default_rng(8)
    made = [random_job(draw, 300, SAMPLINGS["plain"], "lattice", masked=True) for _ in range(4)]
    jobs, rows = [job for job, _ in made], [each for _, each in made]
    jobs[2] = replace(jobs[2], masks=EveryThird(300, begin=0))
    found = [plain(outcome) for outcome in judged(jobs, rows, device)]
    assert found == [reference(job, each) for job, each in zip(jobs, rows, strict=True)]
    assert "breaks its grammar" in str(found[2])


@pytest.mark.parametrize("device", DEVICES)
def test_rows_in_half_precision_are_judged_as_the_same_rows_in_float32(device: str) -> None:
    draw = np.random.default_rng(3)
    for name in ("plain", "qwen", "greedy"):
        job, rows = random_job(draw, 700, SAMPLINGS[name], "lattice")
        rows = torch.from_numpy(rows).bfloat16().float().numpy()
        (outcome,) = judged([job], [rows], device, torch.bfloat16)
        assert plain(outcome) == reference(job, rows)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "form"), [("plain", "lattice"), ("plain", "coupled"), ("top_p", "dense")])
def test_an_answer_does_not_depend_on_the_rest_of_the_batch(device: str, name: str, form: str) -> None:
    """Bit for bit: the code of a context probability shows its whole number only coarsely, so it is compared
    before it is encoded."""
    draw = np.random.default_rng(4)
    jobs, rows = zip(*(random_job(draw, 3000, SAMPLINGS[name], form) for _ in range(30)), strict=True)
    alone = [measured([job], [each], device)[0] for job, each in zip(jobs, rows, strict=True)]
    assert measured(list(jobs), list(rows), device) == alone


def measured(jobs: list[Job], rows: list[Rows], device: str) -> list[list[float]]:
    """All answers of each job, as numbers."""
    tasks, heard = tasks_of(jobs), []
    for task in tasks:
        noting = Noting(task.job)
        object.__setattr__(task, "judging", noting)
        heard.append(noting.answers)
    outcomes(tasks, rows, device)
    return heard


class Noting(Judging):
    """Judging that notes what it is given."""

    def __init__(self, job: Job) -> None:
        self.answers: list[float] = []
        super().__init__(job)

    def settle(self, question: Question, answer: float) -> None:
        self.answers.append(answer)
        super().settle(question, answer)


@pytest.mark.parametrize("device", DEVICES)
def test_a_row_that_is_not_finite_is_refused_only_where_it_is_needed(device: str) -> None:
    draw = np.random.default_rng(5)
    for bad in (np.nan, np.inf):
        for name in ("plain", "qwen", "greedy", "top_p"):
            jobs, rows = zip(
                *(random_job(draw, 1200, SAMPLINGS[name], "lattice") for _ in range(6)), strict=True
            )
            for number, each in enumerate(rows):
                each[-1 - number % len(each), draw.integers(0, 1200)] = bad
            found = [plain(outcome) for outcome in judged(list(jobs), list(rows), device)]
            assert found == [reference(job, each) for job, each in zip(jobs, rows, strict=True)]


SEEDS, POSITIONS = [0, 1, 2**63 + 5, 2**64 - 1], [0, 7, 2**31, 123456]


@pytest.mark.parametrize("device", [DEVICES[0], DEVICES[2]])
def test_the_random_words_are_those_of_numpy(device: str) -> None:
    signed = torch.tensor([[seed - 2**64 if seed >> 63 else seed] for seed in SEEDS], device=device)
    positions, ids = torch.tensor(POSITIONS, device=device)[:, None], torch.arange(1001, device=device)[None]
    words = words_in_torch(signed, positions, ids, Purpose.COUPLING).cpu().numpy().view(np.uint64)
    for row, seed, position in zip(words, SEEDS, POSITIONS, strict=True):
        assert (row == coupling_words(seed, position, 1001)).all()


@pytest.mark.parametrize("device", [DEVICES[0], DEVICES[2]])
def test_the_random_numbers_are_those_of_the_reference(device: str) -> None:
    openings = [Opening(b"fakefake", 2000, Sampling(), seed) for seed in SEEDS]
    asks = [
        Ask(Question(Asked.CHOICE, position), opening)
        for position, opening in zip(POSITIONS, openings, strict=True)
    ]
    table = make_table(asks, 6, torch.device(device))
    noise = gumbel_noise(table, torch.arange(1001, device=device)[None]).cpu().numpy()
    for row, seed, position in zip(noise, SEEDS, POSITIONS, strict=False):
        np.testing.assert_allclose(row, reference_noise(seed, position, 1001), rtol=1e-13)
    for purpose in (Purpose.ACCEPT, Purpose.RESAMPLE):
        expected = [uniform(seed, at, purpose) for seed, at in zip(SEEDS, POSITIONS, strict=True)]
        assert uniforms(table, purpose).tolist()[:4] == expected


@pytest.mark.parametrize("device", [DEVICES[0], DEVICES[2]])
def test_penalties_are_those_of_the_reference_bit_for_bit(device: str) -> None:
    draw = np.random.default_rng(6)
    for name in ("all", "qwen", "penalties"):
        tokens = draw.integers(0, 50, 40).tolist()
        rows = draw.normal(size=(5, 60)).astype(np.float32)
        positions = [20, 21, 22, 30, 40]
        given = torch.from_numpy(rows).to(device, copy=True)
        penalise(given, SAMPLINGS[name], tokens, 11, positions)
        penalties = Penalties(SAMPLINGS[name], 11)
        expected = [penalties.apply(row, tokens, at) for row, at in zip(rows, positions, strict=True)]
        assert (given.cpu().numpy() == np.stack(expected)).all()


def test_two_ways_of_adding_up_differ_for_one_draw_in_ten_million_at_most() -> None:
    """A draw differs where its number lies between the two cumulative sums of a token: their distances added
    up bound how often."""
    draw_ = np.random.default_rng(9)
    width = padded_width(150_000)
    for scale in (1.0, 3.0, 8.0):
        weights = np.zeros(width)
        weights[:150_000] = np.exp(scale * draw_.normal(size=150_000))
        in_order = np.cumsum(weights)
        blocks = torch.from_numpy(weights)[None].view(-1, COLUMNS)
        before = blocks.sum(-1).cumsum(-1) - blocks.sum(-1)
        in_blocks = (before[:, None] + blocks.cumsum(-1)).flatten().numpy()
        distances = np.abs(in_order / in_order[-1] - in_blocks / in_blocks[-1])
        assert distances.max() < 1e-12
        assert distances.sum() < 1e-7


@pytest.mark.parametrize("device", [DEVICES[0], DEVICES[2]])
def test_a_draw_never_takes_a_column_without_weight(device: str) -> None:
    width = padded_width(3000)
    weights = torch.zeros((3, width), dtype=torch.float64, device=device)
    weights[0, 2047], weights[0, 2050] = 1e-300, 1.0
    weights[1, 5] = weights[1, 2900] = 0.25
    weights[2, 1024] = 1.0
    for number in (2.0**-53, 0.5 - 1e-16, 0.5, 1 - 2.0**-53):
        columns, mass = draw(weights, torch.full((3,), number, dtype=torch.float64, device=device))
        assert (weights.gather(1, columns[:, None]) > 0).all()
        assert mass.tolist() == [1.0, 0.5, 1.0]
