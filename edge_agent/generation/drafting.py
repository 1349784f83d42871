"""Run the draft model in a thread, while the event loop sends and receives.

Law: one call at a time. A thread cannot be stopped and the model is not thread-safe, so the next user of the
model waits for `returned`, however often it is cancelled.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from common.process.model_thread import ModelThread
from common.protocol.messages import Opening
from common.sampling.distribution import fit_vocabulary
from common.sampling.penalties import Penalties
from edge_agent.device.power import Pace
from edge_agent.errors import AgentError
from edge_agent.policy.policy import Policy, Proposal
from edge_agent.session.events import Drafted, DraftFailed


class NextTokenModel(Protocol):
    """What a generation asks of its draft model; `DraftModel` is the real one."""

    @property
    def max_positions(self) -> int:
        """The longest sequence."""
        ...

    def logits(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """The logits [width] of the token that follows `tokens`, the whole sequence."""
        ...


@runtime_checkable
class PromptReader(Protocol):
    """A draft model that reads a prompt in several runs, and whose numbers may depend on where it ends."""

    def begin_text(self, num_prompt: int, between_runs: Callable[[int, int], None] | None = None) -> None:
        """The first `num_prompt` tokens of the sequences to come are the prompt.

        `logits` calls `between_runs` after each of several runs with the number of tokens that it has run
        and the number of all; what that raises ends the reading.
        """
        ...

    def num_unread(self, tokens: Sequence[int], num_prompt: int) -> int:
        """How many of `tokens`, with a prompt of this length, have to be read to continue them."""
        ...


class _StoppedError(Exception):
    """The generation has ended while its prompt was being read."""


class Drafting:
    """The calls of one generation; `watch` is called in the event loop as a long prompt is read."""

    watch: Callable[[int, int], None] | None = None

    def __init__(
        self,
        model: NextTokenModel,
        thread: ModelThread,
        policy: Policy,
        opening: Opening,
        pace: Pace | None = None,
        num_prompt: int = 0,
    ) -> None:
        """The opening's vocabulary is the tokenizer's: the model's logits may be wider or narrower.

        `num_prompt` is the length of the prompt; 0 leaves it to the model how to read.
        """
        self._pace = pace or Pace()
        self._model, self._thread = model, thread
        self.policy, self._vocab_size = policy, opening.vocab_size
        self._num_prompt = num_prompt
        self._penalties = Penalties(opening.sampling, opening.num_prompt)
        self._running: asyncio.Future[Proposal] | None = None
        self._is_stopping = False

    def num_unread(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` the model has to read before it can draft; while it is idle."""
        if isinstance(self._model, PromptReader):
            return self._model.num_unread(tokens, self._num_prompt)
        return len(tokens)

    def begin(
        self, tokens: Sequence[int], report: Callable[[Drafted | DraftFailed | BaseException], None]
    ) -> None:
        """Draft what follows `tokens`; `report` gets the draft or the model's error, in the event loop."""
        began, self._loop = time.monotonic(), asyncio.get_running_loop()

        def returned(running: "asyncio.Future[Proposal]") -> None:
            error = running.exception()
            if isinstance(error, AgentError):
                report(DraftFailed(error))
            else:
                report(error or Drafted(running.result(), time.monotonic() - began))

        self._running = self._thread.start(lambda: self._draft(tokens))
        self._running.add_done_callback(returned)

    async def returned(self) -> None:
        """Wait until the model has returned; a cancellation is raised only then.

        The generation has ended: a prompt that is being read is left after the run in progress.
        """
        self._is_stopping = True
        running, cancelled = self._running, None
        while running is not None and not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _draft(self, tokens: Sequence[int]) -> Proposal:
        if rest := self._pace.rest(time.monotonic()):
            time.sleep(rest)
        began = time.monotonic()
        if self._num_prompt and isinstance(self._model, PromptReader):
            self._model.begin_text(self._num_prompt, self._between_runs)
        logits = fit_vocabulary(self._model.logits(tokens), self._vocab_size)
        position = len(tokens)
        proposal = self.policy.propose(self._penalties.apply(logits, tokens, position), position)
        self._pace.worked(began, time.monotonic())
        return proposal

    def _between_runs(self, num_read: int, num_tokens: int) -> None:
        if self._is_stopping and num_read < num_tokens:
            raise _StoppedError
        if self.watch is not None:
            self._loop.call_soon_threadsafe(self.watch, num_read, num_tokens)
