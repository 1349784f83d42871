"""Verifications as sessions ask for them: texts, drafts near the target's own law, and tasks to judge."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.scheduling.batch import Batch
from cloud_worker.scheduling.fair_queue import SessionKey
from cloud_worker.scheduling.task import Task
from cloud_worker.session.job import Job
from cloud_worker.session.session import CloudSession, Target
from cloud_worker.target_model import TargetModel
from common.protocol.messages import Draft, DraftToken, Opening
from common.sampling.distribution import Sampling, densify, quantise, warp

FINGERPRINT = b"fakefake"
KINDS = {
    "plain": Sampling(),
    "qwen": Sampling(0.7, top_k=20, top_p=0.8, repetition_penalty=1.05),
    "coupled": Sampling(),  # drafts without distributions
    "dense": Sampling(),  # drafts with the whole distribution
    "flat": Sampling(100.0, top_p=0.999),  # the worst for a nucleus
    "long top-k": Sampling(1.5, top_k=30000),
}


@dataclass(frozen=True, slots=True)
class Verification:
    """A session's text and the draft that continues it."""

    session: SessionKey
    text: tuple[int, ...]
    block: tuple[DraftToken, ...]

    def task(self, sampling: Sampling, vocab_size: int) -> Task:
        """Return a new task that verifies the draft and asks for a bonus token."""
        opening = Opening(FINGERPRINT, vocab_size, sampling, seed=7, num_prompt=len(self.text))
        draft = Draft(0, 0, 0, self.text, self.block, bonus=1, opening=opening)
        tokens = (*self.text, *(item.token for item in self.block))
        session = CloudSession(Target("w", FINGERPRINT, vocab_size, max_tokens=1 << 20))
        return Task(self.session, session, Job(opening, (draft,), tokens, len(self.block) + 1))


def batch_of(tasks: Sequence[Task], model: TargetModel, chunk_tokens: int = 1 << 20) -> Batch:
    """Return the batch that a worker runs for these tasks, all of them whole."""
    return Batch.of(tasks, model.num_missing, chunk_tokens)


def verifications(
    model: TargetModel, vocab_size: int, num_sessions: int, past: int, num_new: int, kind: str
) -> list[Verification]:
    """Write drafts of `num_new` tokens, each drawn from the target's own distribution, roughly rounded.

    So most of them are accepted, as with a good draft model, and each row of a block is judged.
    """
    draw = np.random.default_rng(0)
    keys = [SessionKey(f"device{number}", "s") for number in range(num_sessions)]
    texts = [
        tuple(draw.integers(0, vocab_size, past + number % 7).tolist()) for number in range(num_sessions)
    ]
    blocks: list[list[DraftToken]] = [[] for _ in keys]
    for _ in range(num_new):
        passes = [
            Pass(key, (*text, *(item.token for item in block)), 1)
            for key, text, block in zip(keys, texts, blocks, strict=True)
        ]
        for block, rows in zip(blocks, model.logits(passes), strict=True):
            block.append(_drafted(warp(rows[0][:vocab_size], KINDS[kind]), kind, float(draw.random())))
    return [
        Verification(key, text, tuple(block)) for key, text, block in zip(keys, texts, blocks, strict=True)
    ]


def _drafted(probs: np.ndarray, kind: str, uniform: float) -> DraftToken:
    if kind == "coupled":
        return DraftToken(int(probs.argmax()))
    distribution = densify(probs) if kind == "dense" else quantise(probs, 32, 65536)
    return DraftToken(distribution.draw(uniform), distribution)
