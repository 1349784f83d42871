"""The grammars that a worker has compiled, and the openings that wait for theirs.

Law 5: compiling takes place in a thread of its own, one grammar at a time, and is charged to its device. Few
openings wait for it, fewer of one device, and what sessions use at once is bounded; others are `busy`.
"""

import asyncio
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer

from cloud_worker.scheduling.costs import CostKind, Costs
from cloud_worker.scheduling.fair_queue import SessionKey
from common.grammar.answer import AnswerMasks
from common.grammar.engine import MAX_KEPT, GrammarEngine, num_bytes
from common.grammar.errors import GrammarsFullError, UnknownGrammarError, UnusableGrammarError
from common.protocol.grammar import AnswerGrammar, Grammar, KnownGrammar
from common.protocol.messages import Draft
from common.sampling.mask import Constraint

MAX_BYTES = 1 << 20  # of the sources of all grammars in use: compiled, they take some hundred times as much
MAX_BYTES_PER_DEVICE = 256 << 10
MAX_WAITING = 32
MAX_WAITING_PER_DEVICE = 2


class WorkerGrammars:
    """The `Grammars` of a worker's target model."""

    def __init__(self, tokenizer: Callable[[], Tokenizer]) -> None:
        """`tokenizer` is called with the first grammar; it raises UnusableGrammarError if there is none."""
        self._engine = GrammarEngine(tokenizer)
        self._lock = threading.Lock()  # of what follows, which the event loop and the compiling thread use
        self._known: OrderedDict[bytes, Grammar] = OrderedDict()  # used last at the end
        self._users: WeakKeyDictionary[Constraint, tuple[str, Grammar]] = WeakKeyDictionary()

    @property
    def engine(self) -> str:
        """What it forbids tokens with, in its version."""
        return self._engine.name

    def has(self, given: AnswerGrammar) -> bool:
        """Whether a grammar is compiled."""
        return self._engine.has(given.grammar)

    def prepare(self, given: AnswerGrammar) -> float:
        """Compile a grammar, if it can be; the seconds that it took. It blocks: use a thread."""
        began = time.perf_counter()
        with suppress(UnusableGrammarError):  # the session that needs it is told
            self._engine.compile(self._source(given))
        return time.perf_counter() - began

    def masks(
        self, given: AnswerGrammar | KnownGrammar, end_ids: frozenset[int], device: str = ""
    ) -> Constraint:
        """As `Grammars.masks`; takes microseconds if the grammar is compiled."""
        grammar = self._source(given)
        self._check_room(grammar, device)
        matcher = self._engine.compile(grammar)
        masks = AnswerMasks(matcher, given.num_prompt, {*given.end_ids, *end_ids}, closing=given.end_ids[0])
        with self._lock:
            self._users[masks] = device, grammar
        return masks

    def _check_room(self, grammar: Grammar, device: str) -> None:
        """Raise GrammarsFullError if sessions would use too many grammars, all together or of one device."""
        with self._lock:
            used = set(self._users.values())
        own = {one for owner, one in used if owner == device}
        everyone = {one for _, one in used}
        for held, most in ((own, MAX_BYTES_PER_DEVICE), (everyone, MAX_BYTES)):
            if grammar not in held and sum(map(num_bytes, held)) + num_bytes(grammar) > most:
                raise GrammarsFullError

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
            if len(self._known) > MAX_KEPT:
                self._known.popitem(last=False)
            return given.grammar


@dataclass(frozen=True, slots=True)
class _Opening:
    """One that waits; `passed_on` takes it further."""

    given: AnswerGrammar
    passed_on: Callable[[], object]


class Compiling:
    """Openings whose grammars are being compiled; each is passed on when that has been tried.

    Those of light devices come first, in the order in which they came.
    """

    def __init__(self, grammars: WorkerGrammars, costs: Costs) -> None:
        self._grammars = grammars
        self._costs = costs
        self._waiting: dict[SessionKey, _Opening] = {}
        self._task: asyncio.Task[None] | None = None

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
        self._waiting[key] = _Opening(given, passed_on)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._compile_all(), name="compiling")

    def drop(self, key: SessionKey) -> None:
        """The session is over."""
        self._waiting.pop(key, None)

    async def _compile_all(self) -> None:
        while self._waiting:
            key = min(self._waiting, key=lambda one: not self._costs.is_light(one.device))
            opening = self._waiting[key]
            seconds = await asyncio.to_thread(self._grammars.prepare, opening.given)
            self._costs.charge(key.device, CostKind.COMPILING, seconds, time.monotonic())
            if self._waiting.pop(key, None) is opening:
                opening.passed_on()


def _grammar_of(message: object) -> AnswerGrammar | None:
    """The grammar that comes with its source."""
    given = message.opening.grammar if isinstance(message, Draft) and message.opening is not None else None
    return given if isinstance(given, AnswerGrammar) else None
