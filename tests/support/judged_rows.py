"""Random jobs with random logits, to hold two ways of judging together."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.scheduling.batch import Batch, Outcome
from cloud_worker.scheduling.fair_queue import SessionKey
from cloud_worker.scheduling.retries import Unjudged
from cloud_worker.scheduling.task import Task
from cloud_worker.session.job import Job, Rows
from cloud_worker.session.session import CloudSession, Target
from common.protocol.messages import Draft, DraftToken, Opening
from common.sampling.distribution import Distribution, Lattice, Sampling, TopK, densify, quantise, softmax
from common.sampling.mask import Mask, num_words
from common.sampling.shares import encode_shares

SAMPLINGS = {
    "plain": Sampling(),
    "cool": Sampling(0.7),
    "greedy": Sampling(0.0),
    "top_k": Sampling(0.7, top_k=20),
    "top_p": Sampling(1.0, top_p=0.9),
    "qwen": Sampling(0.7, top_k=20, top_p=0.8, repetition_penalty=1.05),
    "min_p": Sampling(1.2, min_p=0.05),
    "all": Sampling(0.8, 50, 0.95, 0.02, 1.2, 0.4, 0.3),
    "long_k": Sampling(1.5, top_k=1500),
    "flat": Sampling(50.0, top_p=0.99),
    "penalties": Sampling(1.0, presence_penalty=0.5, frequency_penalty=0.25),
}
FORMS = ("lattice", "wide", "dense", "top_k", "coupled")


class EveryThird:
    """Allows a third of the tokens at each position, and knows nothing after a forbidden one."""

    def __init__(self, vocab_size: int, begin: int) -> None:
        self._vocab_size, self._begin = vocab_size, begin

    def mask(self, tokens: Sequence[int], position: int) -> Mask | None:
        written = range(self._begin, position)
        return self._mask(position) if all(tokens[i] % 3 == i % 3 for i in written) else None

    def _mask(self, position: int) -> Mask:
        allowed = np.arange(32 * num_words(self._vocab_size)) % 3 == position % 3
        return np.packbits(allowed, bitorder="little").view(np.uint32)


def random_job(
    draw: np.random.Generator,
    vocab_size: int,
    sampling: Sampling,
    form: str,
    *,
    length: int = 4,
    masked: bool = False,
) -> tuple[Job, Rows]:
    """A job with a draft, context probabilities and a bonus token, and logits that are like a model's."""
    scale = draw.choice([1.0, 3.0, 8.0])
    context = draw.integers(0, vocab_size, int(draw.integers(3, 12))).tolist()
    num_probs = int(draw.integers(0, 3))
    num_rows = num_probs + length + 1
    rows = (scale * draw.normal(size=(num_rows, vocab_size))).astype(np.float32)
    if draw.random() < 0.5:  # ties, as a model in bfloat16 has many
        rows = torch.from_numpy(rows).bfloat16().float().numpy()
    block: list[DraftToken] = []
    for position, row in enumerate(rows[num_probs : num_probs + length], len(context)):
        if masked and draw.random() < 0.8:
            row[np.arange(vocab_size) % 3 == position % 3] += 5 * scale
        own = row + draw.normal(size=vocab_size).astype(np.float32) * draw.choice([0.1, 1.0])
        block.append(_draft_token(draw, softmax(own, max(0.5, sampling.temperature)), form))
    opening = Opening(
        b"fakefake", vocab_size, sampling, int(draw.integers(0, 2**63)) * 2 + 1, num_prompt=len(context) - 1
    )
    drafts = (Draft(0, 0, 0, tuple(context), tuple(block), 1, num_probs, opening=opening),)
    tokens = (*context, *(each.token for each in block))
    masks = EveryThird(vocab_size, len(context)) if masked else None
    return Job(opening, drafts, tokens, num_rows, masks), rows


def _draft_token(draw: np.random.Generator, probs: np.ndarray, form: str) -> DraftToken:
    if form == "coupled":
        return DraftToken(int(probs.argmax()))
    distribution: Distribution
    if form in ("lattice", "wide"):
        distribution = quantise(probs, 8 if form == "lattice" else 500, 256 if form == "lattice" else 65536)
        return DraftToken(distribution.draw(draw.random()), distribution)
    if form == "dense":
        distribution = densify(probs)
        return DraftToken(distribution.draw(draw.random()), distribution)
    ids = np.argsort(-probs, kind="stable")[:16]
    token = int(draw.choice(ids))
    return DraftToken(token, TopK(ids, encode_shares(probs[ids]), float(probs[token])))


def tasks_of(jobs: Sequence[Job]) -> list[Task]:
    """A task per job, each of a session of its own."""
    target = Target("w0", b"fakefake", jobs[0].opening.vocab_size, max_tokens=1 << 16)
    return [
        Task(SessionKey("device", str(number)), CloudSession(target), job) for number, job in enumerate(jobs)
    ]


def batch_of(tasks: Sequence[Task]) -> Batch:
    """One batch that runs all of them."""
    passes = [Pass(task.key, task.job.tokens, task.job.num_rows) for task in tasks]
    return Batch(tasks, passes, passes, [one.num_rows for one in passes])


def plain(outcome: Outcome) -> object:
    """An outcome in a form that can be compared."""
    if isinstance(outcome, Unjudged):
        return list(outcome.judged), f"{type(outcome.error).__name__}: {outcome.error}"
    return None if outcome is None else list(outcome)


def many_jobs(seed: int, vocab_size: int, count: int) -> Iterator[tuple[str, Job, Rows]]:
    """Jobs of every form under every sampling."""
    draw = np.random.default_rng(seed)
    for _ in range(count):
        for name, sampling in SAMPLINGS.items():
            for form in FORMS:
                yield f"{name}, {form}", *random_job(draw, vocab_size, sampling, form)


__all__ = ["FORMS", "SAMPLINGS", "Lattice", "batch_of", "many_jobs", "plain", "random_job", "tasks_of"]
