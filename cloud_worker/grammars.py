"""The grammars that a worker has compiled, and the openings that wait for theirs.

Law 5: compiling takes place in a thread of its own, one grammar at a time, and is charged to its device. Few
openings wait for it, fewer of one device; others are refused as `busy`.
"""

import asyncio
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress

from tokenizers import Tokenizer

from cloud_worker.scheduling.costs import CostKind, Costs
from cloud_worker.scheduling.fair_queue import SessionKey
from common.grammar.answer import AnswerMasks
from common.grammar.engine import MAX_COMPILED, GrammarEngine
from common.grammar.errors import UnknownGrammarError, UnusableGrammarError
from common.protocol.grammar import AnswerGrammar, Grammar, KnownGrammar
from common.protocol.messages import Draft
from common.sampling.mask import Constraint

MAX_WAITING = 32
MAX_WAITING_PER_DEVICE = 2


class WorkerGrammars:
    """The `Grammars` of a worker's target model."""

    def __init__(self, tokenizer: Callable[[], Tokenizer]) -> None:
        """`tokenizer` is called with the first grammar; it raises UnusableGrammarError if there is none."""
        self._engine = GrammarEngine(tokenizer)
        self._lock = threading.Lock()  # of what follows, which the event loop and the compiling thread use
        self._known: OrderedDict[bytes, Grammar] = OrderedDict()  # used last at the end

    @property
    def engine(self) -> str:
        """What it forbids tokens with, in its version."""
        return self._engine.name

    def has(self, given: AnswerGrammar) -> bool:
        """Whether a grammar is compiled."""
        return self._engine.has(given.grammar)

    def prepare(self, given: AnswerGrammar) -> float:
        """Compile a grammar, if it can be; the processor seconds that it took. It blocks: use a thread."""
        began = time.thread_time()
        with suppress(UnusableGrammarError):  # the session that needs it is told
            self.masks(given, frozenset())
        return time.thread_time() - began

    def masks(self, given: AnswerGrammar | KnownGrammar, end_ids: frozenset[int]) -> Constraint:
        """As `Grammars.masks`; takes microseconds if the grammar is compiled."""
        matcher = self._engine.compile(self._source(given))
        ends = {*given.end_ids, *end_ids}
        return AnswerMasks(matcher, given.num_prompt, ends, closing=given.end_ids[0])

    def _source(self, given: AnswerGrammar | KnownGrammar) -> Grammar:
        with self._lock:
            if isinstance(given, KnownGrammar):
                if given.digest not in self._known:
                    raise UnknownGrammarError
                self._known.move_to_end(given.digest)
                return self._known[given.digest]
            if given.engine != self._engine.name:
                raise UnusableGrammarError(
                    f"this worker constrains with {self._engine.name}, the device with {given.engine}; "
                    "use the same version of llguidance and the same tokenizer on both sides"
                )
            self._known[given.digest] = given.grammar
            if len(self._known) > MAX_COMPILED:
                self._known.popitem(last=False)
            return given.grammar


class Compiling:
    """Openings whose grammars are being compiled; each is passed on when that has been tried."""

    def __init__(self, grammars: WorkerGrammars, costs: Costs) -> None:
        self._grammars = grammars
        self._costs = costs
        self._one_at_a_time = asyncio.Lock()
        self._waiting: dict[SessionKey, asyncio.Task[None]] = {}

    def is_needed(self, message: object) -> bool:
        """Whether a message has to wait."""
        given = _grammar_of(message)
        return given is not None and not self._grammars.has(given)

    def has_room(self, device: str) -> bool:
        """Whether an opening of this device may wait."""
        counts = Counter(key.device for key in self._waiting)
        return len(self._waiting) < MAX_WAITING and counts[device] < MAX_WAITING_PER_DEVICE

    def waits(self, key: SessionKey) -> bool:
        """Whether an opening of this session waits already."""
        return key in self._waiting

    def begin(self, key: SessionKey, draft: Draft, passed_on: Callable[[], object]) -> None:
        """Compile the draft's grammar, then call `passed_on` in the event loop."""
        given = _grammar_of(draft)
        assert given is not None  # `is_needed`
        task = asyncio.create_task(self._compile(key, given, passed_on), name="compiling")
        self._waiting[key] = task
        task.add_done_callback(lambda _: self._waiting.pop(key, None))

    def drop(self, key: SessionKey) -> None:
        """The session is over."""
        if (task := self._waiting.pop(key, None)) is not None:
            task.cancel()

    async def _compile(self, key: SessionKey, given: AnswerGrammar, passed_on: Callable[[], object]) -> None:
        async with self._one_at_a_time:
            seconds = await asyncio.to_thread(self._grammars.prepare, given)
        self._costs.charge(key.device, CostKind.COMPILING, seconds, time.monotonic())
        self._waiting.pop(key, None)
        passed_on()


def _grammar_of(message: object) -> AnswerGrammar | None:
    """The grammar that comes with its source."""
    given = message.opening.grammar if isinstance(message, Draft) and message.opening is not None else None
    return given if isinstance(given, AnswerGrammar) else None
