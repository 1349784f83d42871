"""The engine of a target model behind a vLLM server: one session per batch, many batches in flight.

Law: the server schedules, so nothing is batched here. When the connection is lost, the server is checked
again before it is trusted: another model may have taken its place. Until then sessions are sent elsewhere.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from tokenizers import Tokenizer

from cloud_worker.config import WorkerConfig
from cloud_worker.engines.engine import EngineError, EngineLostError, Part, Verified
from cloud_worker.scheduling.retries import CannotVerifyError, Unjudged
from cloud_worker.scheduling.task import Task
from cloud_worker.scheduling.turns import num_positions
from cloud_worker.vllm_target.client import Client, RefusedError
from cloud_worker.vllm_target.http_api import AnswerError
from cloud_worker.vllm_target.judging import JobError, judged, unsupported
from cloud_worker.vllm_target.model_folder import ModelFolder
from cloud_worker.vllm_target.questions import Question, Reply
from cloud_worker.vllm_target.start_checks import Served, check

SESSIONS_AT_ONCE = 64

_log = logging.getLogger(__name__)


class VllmEngine:
    """Verifies drafts by asking a server that has passed the checks; enter it before `verify`."""

    batches_at_once = SESSIONS_AT_ONCE
    max_batch = 1
    num_pages = 0  # the server's own
    num_used_pages = 0

    def __init__(self, client: Client, served: Served, folder: ModelFolder) -> None:
        """`served` is what the checks of this server have found."""
        self.vocabulary = folder.vocabulary
        self.eos_ids = folder.eos_ids
        self.tokenizer: Callable[[], Tokenizer] | None = None  # so the worker refuses grammars
        self.max_positions = served.max_positions
        self.fault: str | None = None
        self._client = client
        self._served = served
        self._folder = folder
        self._vocab_size = max(self.vocabulary.values()) + 1
        self._checking = asyncio.Lock()
        self._num_in_flight = 0

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    def cached_tokens(self, session: Hashable) -> int:  # noqa: ARG002 - the server keeps its own cache
        """How many tokens of a session are cached: the server does not report it."""
        return 0

    def forget(self, session: Hashable) -> None:
        """Nothing is kept of a session."""

    async def verify(self, tasks: Sequence[Task], rooms: Sequence[int | None]) -> Verified:  # noqa: ARG002
        """Judge the drafts of each task by questions to the server; it cuts long prompts itself."""
        if self.fault is not None:
            await self._check_again()
        self._num_in_flight += 1
        began = time.perf_counter()
        try:
            parts = await asyncio.gather(*(self._one(task) for task in tasks))
        except EngineLostError as error:
            self._lose(str(error))
            raise
        finally:
            share = 1 / self._num_in_flight
            self._num_in_flight -= 1
        return Verified(parts, (time.perf_counter() - began) * share)

    async def _one(self, task: Task) -> Part:
        job = task.job
        if (reason := unsupported(job.opening, job.drafts)) is not None:
            return Part(Unjudged([], CannotVerifyError(reason)), 0, 0)
        asked = _Counted(self._client)
        try:
            outcome = await judged(job, asked.ask, self._vocab_size)
        except JobError as error:
            cause = error.cause
            if isinstance(cause, EngineLostError):
                raise cause from error
            if isinstance(cause, AnswerError):
                raise EngineLostError(str(cause)) from error
            if isinstance(cause, RefusedError):
                cause = CannotVerifyError(f"the target model's server refuses this draft: {cause}")
            return Part(Unjudged(error.judged, cause), asked.num_asked, asked.num_asked)
        return Part(outcome, max(num_positions(job), asked.num_asked), job.num_rows)

    def _lose(self, reason: str) -> None:
        if self.fault is None:
            _log.warning("the target model's server is lost: %s", reason)
        self.fault = reason

    async def _check_again(self) -> None:
        """Check the server, once for all who wait; EngineLostError while it cannot be used."""
        async with self._checking:
            if self.fault is None:
                return
            try:
                served = await check(self._client, self._served.model, self._folder)
            except EngineError as error:
                self.fault = str(error)
                raise EngineLostError(self.fault) from error
            if served.max_positions < self.max_positions:
                self.fault = f"the server's max_model_len is {served.max_positions} now: restart this worker"
                raise EngineLostError(self.fault)
            self.fault = None
            _log.info("the target model's server is back (vLLM %s)", served.version)


class _Counted:
    """A client, and how often it was asked."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.num_asked = 0

    async def ask(self, tokens: Sequence[int], question: Question) -> Reply:
        self.num_asked += question.num_samples
        return await self._client.ask(tokens, question)


@contextmanager
def open_vllm_engine(config: WorkerConfig) -> Generator[VllmEngine]:
    """The engine that `config` names, once its server has passed the checks; EngineError."""
    folder = ModelFolder.read(config.model)
    client = Client(config.engine_url or "", config.engine_key())
    try:
        served = asyncio.run(_checked(client, config.engine_model or "", folder))
    except EngineLostError as error:
        raise EngineError(f"{error}: start vLLM, or set `engine_url`") from error
    _log.info("vLLM %s serves %s, up to %d tokens", served.version, served.model, served.max_positions)
    yield VllmEngine(client, served, folder)


async def _checked(client: Client, wanted: str, folder: ModelFolder) -> Served:
    async with client:
        return await check(client, wanted, folder)
