"""Writes the figures of docs/results/real-models.md, a section per measurement and pair, and its pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from scipy.stats import binomtest

from evaluation.real_models.answering import Answer
from evaluation.real_models.association import Association
from evaluation.real_models.exactness import NUM_SEEDS, Fit
from evaluation.real_models.pictures import accuracies, rates
from evaluation.real_models.speeds import Timed
from evaluation.reporting.resampling import Estimate
from evaluation.reporting.results import Cell, markdown_table, write_csv, write_section, write_svg

PAGE = "real-models.md"
LLM = "llm"


def accuracy(answers: Sequence[Answer]) -> Estimate:
    """Return the share of right answers with Wilson's 95 % interval."""
    tested = binomtest(sum(each.is_right for each in answers), len(answers))
    interval = tested.proportion_ci(method="wilson")
    return Estimate(float(tested.statistic), float(interval.low), float(interval.high))


def write_tasks(
    folder: Path, name: str, header: str, found: Mapping[str, Mapping[str, Sequence[Answer]]]
) -> None:
    """Write the accuracy of each variant on each task, and what it cost; `found` is by task and variant."""
    rows: list[Sequence[Cell]] = []
    for kind, by_variant in found.items():
        for variant, answers in by_variant.items():
            rows.append((kind, variant, *_task_cells(answers)))
    headings = (
        "task", "scheme", "right, %", "problems", "tokens", "skipped", "uplinks per token",
        "bytes up per token", "accepted", "measured risk",
    )  # fmt: skip
    write_section(folder / PAGE, f"{name} tasks", f"{header}\n\n{markdown_table(headings, rows)}")
    write_svg(
        folder / f"real-models-{name}-tasks.svg",
        accuracies(
            {kind: {one: accuracy(each) for one, each in some.items()} for kind, some in found.items()}
        ),
    )
    each_answer = [
        (
            kind,
            variant,
            one.name,
            int(one.is_right),
            one.num_tokens,
            one.num_uplinks,
            one.num_skipped,
            one.drift,
        )
        for kind, by_variant in found.items()
        for variant, answers in by_variant.items()
        for one in answers
    ]
    write_csv(
        folder / f"real-models-{name}-answers.csv",
        ("task", "scheme", "problem", "right", "tokens", "uplinks", "skipped", "drift"),
        each_answer,
    )


def _task_cells(answers: Sequence[Answer]) -> Sequence[Cell]:
    right, num_tokens = accuracy(answers), sum(each.num_tokens for each in answers)
    tested = sum(each.num_tested for each in answers)
    skipped = sum(each.num_skipped for each in answers)
    return (
        f"{100 * right.value:.0f} ({100 * right.low:.0f} to {100 * right.high:.0f})",
        len(answers),
        num_tokens,
        f"{100 * skipped / max(1, num_tokens):.0f} %" if skipped else None,
        f"{sum(each.num_uplinks for each in answers) / max(1, num_tokens):.2f}",
        sum(each.num_bytes_up for each in answers) / max(1, num_tokens),
        f"{100 * sum(each.num_accepted for each in answers) / tested:.1f} %" if tested else None,
        f"{sum(each.drift for each in answers) / max(1, num_tokens):.4f}" if skipped else None,
    )


def write_greedy(folder: Path, name: str, header: str, same: Mapping[str, tuple[int, int, int]]) -> None:
    """Write which greedy texts are the target's: (equal, texts, tokens) per scheme."""
    headings = ("scheme", "texts equal to the target's", "of", "tokens")
    table = markdown_table(headings, [(each, *same[each]) for each in same])
    write_section(folder / PAGE, f"{name} greedy", f"{header}\n\n{table}")


def write_sampled(folder: Path, name: str, header: str, fits: Sequence[Fit]) -> None:
    """Write the chi-square tests."""
    headings = ("scheme", "sampling", "prompt", "token", "tokens that can be drawn", "accepted", "p-value")
    rows = [
        (*_place(each), each.num_tokens, f"{100 * each.acceptance:.0f} %", f"{each.p_value:.3f}")
        for each in fits
    ]
    table = markdown_table(headings, rows)
    write_section(folder / PAGE, f"{name} sampled", f"{header}\n\n{NUM_SEEDS:,} seeds each:\n\n{table}")


def _place(fit: Fit) -> Sequence[Cell]:
    return fit.scheme, fit.sampling, fit.prompt, fit.position + 1


def write_speeds(folder: Path, name: str, header: str, found: Mapping[str, Sequence[Timed]]) -> None:
    """Write tokens per second of every way and kind of text, by the sampling; ratios are to `llm`."""
    headings = (
        "sampling", "text", "way", "tokens/s", "of llm", "first token, s", "CPU ms per token",
        "of the worker", "uplinks per token", "bytes up per token", "accepted",
    )  # fmt: skip
    rows: list[Sequence[Cell]] = []
    for sampling, timed in found.items():
        for kind in dict.fromkeys(each.kind for each in timed):
            of_kind = [each for each in timed if each.kind == kind]
            alone = rate([each for each in of_kind if each.way == LLM])
            for way in dict.fromkeys(each.way for each in of_kind):
                of_way = [each for each in of_kind if each.way == way]
                rows.append((sampling, kind, way, *_speed_cells(of_way, alone)))
    write_section(folder / PAGE, f"{name} speed", f"{header}\n\n{markdown_table(headings, rows)}")
    write_svg(
        folder / f"real-models-{name}-speed.svg",
        rates(
            {
                f"{kind}, {sampling}": {
                    way: rate([each for each in timed if (each.kind, each.way) == (kind, way)])
                    for way in dict.fromkeys(each.way for each in timed)
                }
                for sampling, timed in found.items()
                for kind in dict.fromkeys(each.kind for each in timed)
            }
        ),
    )


def rate(timed: Sequence[Timed]) -> float:
    """Return all tokens over all seconds."""
    return sum(each.num_tokens for each in timed) / max(1e-9, sum(each.seconds for each in timed))


def _speed_cells(timed: Sequence[Timed], alone: float) -> Sequence[Cell]:
    num_tokens = max(1, sum(each.num_tokens for each in timed))
    firsts = sorted(each.first for each in timed if each.first is not None)
    tested = sum(each.num_tested for each in timed)
    sent = sum(each.num_uplinks for each in timed)
    return (
        f"{rate(timed):.2f}",
        f"{rate(timed) / alone:.2f}" if alone else None,
        f"{firsts[len(firsts) // 2]:.2f}" if firsts else None,
        round(1000 * sum(each.cpu for each in timed) / num_tokens),
        round(1000 * sum(each.worker_cpu for each in timed) / num_tokens) or None,
        f"{sent / num_tokens:.2f}" if sent else None,
        sum(each.num_bytes_up for each in timed) / num_tokens if sent else None,
        f"{100 * sum(each.num_accepted for each in timed) / tested:.0f} %" if tested else None,
    )


def write_association(folder: Path, name: str, header: str, found: Association) -> None:
    """Write how each estimator goes with rejection, and what each choice of a threshold would cost."""
    said = (
        f"{found.num_tokens:,} draft tokens after {found.num_prompts} prompts; mean rejection probability "
        f"{found.rejection}; best by AUROC: `{found.best}`."
    )
    estimators = markdown_table(("estimator", "Pearson", "Spearman", "AUROC"), found.estimators)
    choices = markdown_table(("choice", "threshold", "risk", "uplink rate"), found.choices)
    write_section(folder / PAGE, f"{name} calibration", f"{header}\n\n{said}\n\n{estimators}\n\n{choices}")
