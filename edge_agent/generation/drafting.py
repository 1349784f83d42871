"""Run the draft model in its thread, while the event loop sends and receives.

Law: one call at a time. A thread cannot be stopped and the model is not thread-safe, so the next user of the
model waits for `returned`, however often it is cancelled.
"""

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from common.grammar.answer import AnswerMasks
from common.grammar.errors import UnusableGrammarError
from common.process.model_thread import in_loop
from common.protocol.messages import Opening
from common.sampling.distribution import fit_vocabulary
from common.sampling.mask import forbid
from common.sampling.penalties import Penalties
from edge_agent.errors import AgentError, GenerationError, GrammarError, raised_as
from edge_agent.generation.draft_thread import DraftThread, Steps
from edge_agent.policy.policy import ForcedRun, Policy, Proposal
from edge_agent.session.events import Drafted, DraftFailed

MAX_FORCED = 256  # tokens at once; those that follow are found with the next draft


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
    """A draft model with a cache of one sequence, which reads a prompt in several runs.

    Its numbers may depend on where the prompt ends.
    """

    @property
    def cached(self) -> Sequence[int]:
        """The tokens in the cache."""
        ...

    def another(self) -> Self:
        """One more sequence of this model."""
        ...

    def begin_text(self, num_prompt: int) -> None:
        """The first `num_prompt` tokens of the sequences to come are the prompt."""
        ...

    def num_unread(self, tokens: Sequence[int], num_prompt: int) -> int:
        """How many of `tokens`, with a prompt of this length, have to be read to continue them."""
        ...

    def reading(self, tokens: Sequence[int]) -> Generator[tuple[int, int], None, npt.NDArray[np.float32]]:
        """As `logits`, in steps of one run: yields the number of tokens read, and of all to be read."""
        ...


class Drafting:
    """The calls of one generation; `watch` is called in the event loop as a long prompt is read."""

    watch: Callable[[int, int], None] | None = None

    def __init__(
        self,
        model: NextTokenModel,
        thread: DraftThread,
        policy: Policy,
        opening: Opening,
        num_prompt: int = 0,
        masks: AnswerMasks | None = None,
    ) -> None:
        """The opening's vocabulary is the tokenizer's: the model's logits may be wider or narrower.

        `num_prompt` is the length of the prompt; 0 leaves it to the model how to read. `masks` are those of
        the opening's grammar.
        """
        self._thread = thread
        self.policy, self._vocab_size = policy, opening.vocab_size
        self._num_prompt = num_prompt
        self._masks = masks
        self._penalties = Penalties(opening.sampling, opening.num_prompt)
        self._running: asyncio.Future[Proposal | ForcedRun] | None = None
        self._has_drafted = False
        self.use(model)

    def use(self, model: NextTokenModel) -> None:
        """Draft with this one, which the generation has for itself; before it begins."""
        self._model = model
        self._reader = model if self._num_prompt and isinstance(model, PromptReader) else None

    def num_unread(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` the model has to read before it can draft; while it is idle."""
        return len(tokens) if self._reader is None else self._reader.num_unread(tokens, self._num_prompt)

    def count_processor(self) -> None:
        """Count the generation's processor time from now on."""
        self._thread.begin(self)

    def processor_seconds(self) -> float:
        """The processor time since then; ends the count."""
        return self._thread.end(self)

    def begin(
        self, tokens: Sequence[int], report: Callable[[Drafted | DraftFailed | BaseException], None]
    ) -> None:
        """Draft what follows `tokens`; `report` gets the draft or the model's error, in the event loop."""
        began, self._loop = time.monotonic(), asyncio.get_running_loop()

        def returned(running: "asyncio.Future[Proposal | ForcedRun]") -> None:
            if running.cancelled():
                return  # the generation has ended
            error = running.exception()
            if isinstance(error, AgentError):
                report(DraftFailed(error))
            else:
                report(error or Drafted(running.result(), time.monotonic() - began))

        self._running = self._thread.start(self, self._draft(tokens), reads=not self._has_drafted)
        self._has_drafted = True
        self._running.add_done_callback(returned)

    async def returned(self) -> None:
        """Wait until the model has returned; a cancellation is raised only then.

        The generation has ended: a prompt that is being read is left after the run in progress.
        """
        self._thread.leave(self)
        running, cancelled = self._running, None
        while running is not None and not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _draft(self, tokens: Sequence[int]) -> Steps[Proposal | ForcedRun]:
        if self._masks is not None and (run := self._forced(self._masks, tokens)):
            return ForcedRun(run)  # the model reads them with its next run
        if self._reader is None:
            logits = self._model.logits(tokens)
        else:
            self._reader.begin_text(self._num_prompt)
            logits = yield from self._watched(self._reader.reading(tokens))
        position = len(tokens)
        logits = fit_vocabulary(logits, self._vocab_size)
        logits = self._penalties.apply(logits, tokens, position)
        if self._masks is not None:
            logits = self._allowed(self._masks, logits, tokens)
        return self.policy.propose(logits, position)

    def _forced(self, masks: AnswerMasks, tokens: Sequence[int]) -> tuple[int, ...]:
        with raised_as(GrammarError, UnusableGrammarError):
            return tuple(masks.forced(tokens, MAX_FORCED))

    def _allowed(
        self, masks: AnswerMasks, logits: npt.NDArray[np.floating], tokens: Sequence[int]
    ) -> npt.NDArray[np.floating]:
        with raised_as(GrammarError, UnusableGrammarError):
            mask = masks.mask(tokens, len(tokens))
        if mask is None:
            raise GenerationError(
                "the worker sent a token that the grammar forbids: upgrade the older of the two sides"
            )
        return forbid(logits, mask)

    def _watched(
        self, steps: Generator[tuple[int, int], None, npt.NDArray[np.float32]]
    ) -> Steps[npt.NDArray[np.float32]]:
        num_tokens = 0
        while True:
            try:
                num_read, num_tokens = next(steps)
            except StopIteration as end:
                if num_tokens:
                    self._show(num_tokens, num_tokens)
                return end.value
            self._show(num_read, num_tokens)
            yield

    def _show(self, num_read: int, num_tokens: int) -> None:
        if self.watch is not None:
            in_loop(self._loop, partial(self.watch, num_read, num_tokens))
