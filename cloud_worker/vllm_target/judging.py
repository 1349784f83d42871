"""The verdicts on one job, from questions that are asked ahead of need: as if every draft were accepted.

Law 3: what is asked ahead changes no verdict. The tokens of a job are those that the device drafted, so the
first question about each position is known before the positions before it are decided.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cloud_worker.session.job import Job
from cloud_worker.session.judging import Asked, Judged, Judging
from cloud_worker.session.judging import Question as Wanted
from cloud_worker.vllm_target.deciding import Place, deciding, measuring
from cloud_worker.vllm_target.questions import Question, Reply, refused_sampling
from common.protocol.messages import Draft, Opening
from common.sampling.distribution import Lattice

MAX_AHEAD = 16  # questions of one job in flight
MAX_IDS = 512  # of one lattice: a server answers for 128 at once

Ask: TypeAlias = Callable[
    [Sequence[int], Question], Awaitable[Reply]
]  # all tokens of the job, and what of it
_Step: TypeAlias = Generator[Question, Reply, int | float]


def unsupported(opening: Opening, drafts: Sequence[Draft]) -> str | None:
    """Why this engine cannot verify the drafts exactly, in one line for the device; None when it can."""
    if opening.grammar is not None:
        return "the worker's engine vllm cannot constrain an answer by a grammar; leave the grammar out"
    if (reason := refused_sampling(opening.sampling)) is not None:
        return f"the worker's engine vllm cannot follow {reason}"
    if opening.sampling.greedy:
        return None
    for draft in drafts:
        for item in draft.block:
            if not isinstance(item.distribution, Lattice):
                return (
                    "the worker's engine vllm verifies only truncated distributions; use scheme lossless, "
                    "opportunistic or llm, or temperature 0"
                )
            if len(item.distribution.ids) > MAX_IDS:
                return f"the worker's engine vllm takes at most {MAX_IDS} ids per token; lower max_ids"
    return None


@dataclass(slots=True)
class JobError(Exception):
    """A job that could not be judged to its end, and the verdicts before that."""

    judged: list[Judged]
    cause: Exception


class AskingAhead:
    """The questions of one job in order, each with its first part under way; close it when done."""

    def __init__(self, job: Job, wanted: Sequence[Wanted], ask: Ask, vocab_size: int) -> None:
        self._job, self._ask, self._vocab_size = job, ask, vocab_size
        self._unasked = map(self._step, wanted)
        self._asked: list[tuple[_Step, asyncio.Future[Reply]]] = []

    async def next(self) -> int | float:
        """What the next question comes to."""
        self._look_ahead()
        step, future = self._asked.pop(0)
        reply = await future
        while True:
            try:
                question = step.send(reply)
            except StopIteration as end:
                return end.value
            reply = await self._ask(self._job.tokens, question)

    async def close(self) -> None:
        """Give up what was asked and is not needed."""
        futures = [future for _, future in self._asked]
        self._asked.clear()
        for future in futures:
            future.cancel()
        await asyncio.gather(*futures, return_exceptions=True)

    def _look_ahead(self) -> None:
        while len(self._asked) < MAX_AHEAD and (step := next(self._unasked, None)) is not None:
            coroutine = self._ask(self._job.tokens, next(step))
            self._asked.append((step, asyncio.ensure_future(coroutine)))

    def _step(self, wanted: Wanted) -> _Step:
        opening = self._job.opening
        place = Place(opening.sampling, opening.seed, wanted.position, self._vocab_size)
        if wanted.asked is Asked.PROB:
            return measuring(place, wanted.token or 0)
        return deciding(place, wanted.draft)


async def judged(job: Job, ask: Ask, vocab_size: int) -> list[Judged]:
    """The verdicts on each draft in turn, up to the first block with a rejected token; JobError."""
    judging = Judging(job)
    wanted = judging.asked(job.num_rows)
    only_reads = bool(job.drafts) and all(draft.only_reads for draft in job.drafts)
    end = [Wanted(Asked.CHOICE, len(job.tokens))]
    steps = AskingAhead(job, end if only_reads else wanted, ask, vocab_size)
    try:
        if only_reads:
            await steps.next()  # so that the server has read it
        for one in wanted:
            if judging.is_over:
                break
            judging.settle(one, await steps.next())
    except Exception as error:
        raise JobError(judging.judged, error) from error
    finally:
        await steps.close()
    return judging.judged
