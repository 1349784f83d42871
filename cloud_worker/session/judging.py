"""The verdicts on a job's drafts: a function of the job and its logits alone. Pure.

Law: it reads no session state. So a worker judges in the model's thread while its event loop goes on reading
and answering; with large vocabularies this is the longest step after the forward pass.
"""

from dataclasses import dataclass

import numpy as np

from cloud_worker.session.job import Job, Rows
from cloud_worker.session.verification import Verdict, target_choice, verify_block
from common.protocol.messages import Draft
from common.sampling.distribution import encode_probs, fit_vocabulary, warp
from common.sampling.randomness import FloatArray


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on one draft, and the context probabilities it asked for, one byte each."""

    verdict: Verdict
    context_codes: bytes = b""


def judge(job: Job, rows: Rows) -> list[Judged]:
    """Judge the drafts in turn, up to the first block with a rejected token; `rows` is [num_rows, width].

    Without drafts, the verdict's token is the next token of a bonus stream.
    """
    probs = _TargetProbs(job, rows)
    if not job.drafts:
        position = len(job.tokens)
        return [Judged(Verdict(0, target_choice(probs.at(position), job.opening.seed, position)))]
    judged: list[Judged] = []
    for draft in job.drafts:
        judged.append(_judge(draft, job, probs))
        if judged[-1].verdict.num_accepted < len(draft.block):
            break
    return judged


class _TargetProbs:
    """The target model's warped distribution at each position that a job's rows predict."""

    def __init__(self, job: Job, rows: Rows) -> None:
        self._opening = job.opening
        self._rows = rows
        self._first_predicted = len(job.tokens) - job.num_rows + 1

    def at(self, position: int) -> FloatArray:
        """target_probs [vocab_size] for the token at `position`."""
        row = fit_vocabulary(self._rows[position - self._first_predicted], self._opening.vocab_size)
        return warp(row, self._opening.sampling)


def _judge(draft: Draft, job: Job, probs: _TargetProbs) -> Judged:
    start = draft.base + len(draft.context)
    measured = [probs.at(i)[job.tokens[i]] for i in range(start - draft.num_context_probs, start)]
    verdict = verify_block(
        lambda i: probs.at(start + i),
        draft.block,
        seed=job.opening.seed,
        position=start,
        bonus=draft.bonus > 0,
    )
    return Judged(verdict, encode_probs(np.array(measured)).tobytes() if measured else b"")
