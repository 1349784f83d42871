"""How fast this machine runs the pair: the figures of `Compute`, measured by running both models.

Law: the models themselves are timed, not their cached logits; figures are medians of several runs.
"""

import statistics
import time
from collections.abc import Callable

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.target_model import TargetModel
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.draft_model.source import resolve
from evaluation.simulate.world.compute import Compute

NUM_PROMPT, NUM_NEW, NUM_RUNS = 48, 17, 9


def measure(draft: str, target: str, dtype: str, num_threads: int) -> Compute:
    """Measure the seconds per draft token, prompt token, pass and position; ModelError, TargetModelError."""
    draft_model = DraftModel.load(resolve(draft), num_threads=num_threads)
    target_model = TargetModel.load(target, dtype=dtype, num_threads=num_threads)
    prompt = [1 + number % 200 for number in range(NUM_PROMPT)]

    def drafting(num_new: int) -> Callable[[int], None]:
        def run(number: int) -> None:
            draft_model.logits(prompt)
            began.append(time.perf_counter())
            draft_model.logits([*prompt, *[1 + number % 200] * num_new])

        return run

    def verifying(num_new: int) -> Callable[[int], None]:
        def run(number: int) -> None:
            target_model.logits([Pass("measuring", prompt, 1)])
            began.append(time.perf_counter())
            target_model.logits([Pass("measuring", [*prompt, *[1 + number % 200] * num_new], num_new)])

        return run

    began: list[float] = []

    def seconds(run: Callable[[int], None]) -> float:
        found: list[float] = []
        for number in range(NUM_RUNS + 1):
            run(number)
            found.append(time.perf_counter() - began.pop())
        return statistics.median(found[1:])

    one_draft, many_drafts = seconds(drafting(1)), seconds(drafting(NUM_NEW))
    one_row, many_rows = seconds(verifying(1)), seconds(verifying(NUM_NEW))
    per_position = max(0.0, (many_rows - one_row) / (NUM_NEW - 1))
    return Compute(
        draft_seconds=one_draft,
        prompt_seconds=max(0.0, (many_drafts - one_draft) / (NUM_NEW - 1)),
        pass_seconds=max(0.0, one_row - per_position),
        position_seconds=per_position,
        source=f"{draft} and {target}, measured on this machine with {num_threads} thread(s) each",
    )
