"""The draft model at work in a thread, while the event loop sends, receives and hands over.

Law: one call at a time. A thread cannot be stopped and the model is not made for two, so whoever is to use
the model next waits for `returned`, however often it is cancelled.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from common.process.model_thread import ModelThread
from common.sampling.distribution import fit_vocabulary
from edge_agent.policy.policy import Policy, Proposal


class NextTokenModel(Protocol):
    """What a generation asks of its draft model; `DraftModel` is the real one."""

    @property
    def max_positions(self) -> int:
        """The longest sequence."""
        ...

    def logits(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """The logits [width] of the token that follows `tokens`, the whole sequence."""
        ...


@dataclass(frozen=True, slots=True)
class Drafted:
    """What follows `tokens`, or what the model raised instead, after `seconds` (to the thread and back)."""

    tokens: list[int]
    outcome: Proposal | BaseException
    seconds: float


class Drafting:
    """`tell` is called in the event loop with what each call brought."""

    def __init__(
        self,
        model: NextTokenModel,
        thread: ModelThread,
        policy: Policy,
        vocab_size: int,
        tell: Callable[[Drafted], None],
    ) -> None:
        """`vocab_size` is the tokenizer's: the model's logits may be wider or narrower."""
        self._model, self._thread = model, thread
        self._policy, self._vocab_size = policy, vocab_size
        self._tell = tell
        self._running: asyncio.Future[Proposal] | None = None

    @property
    def running(self) -> bool:
        """Whether a call has not been told yet."""
        return self._running is not None

    def begin(self, tokens: Sequence[int]) -> None:
        """Draft what follows `tokens`; only while not `running`."""
        copied, began = list(tokens), time.monotonic()
        self._running = self._thread.start(lambda: self._draft(copied))
        self._running.add_done_callback(lambda running: self._has_returned(running, copied, began))

    async def returned(self) -> None:
        """Until the model has returned; a cancel is raised only then."""
        running, cancelled = self._running, None
        while running is not None and not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _draft(self, tokens: list[int]) -> Proposal:
        logits = fit_vocabulary(self._model.logits(tokens), self._vocab_size)
        return self._policy.propose(logits, len(tokens))

    def _has_returned(self, running: "asyncio.Future[Proposal]", tokens: list[int], began: float) -> None:
        self._running = None
        self._tell(Drafted(tokens, running.exception() or running.result(), time.monotonic() - began))
