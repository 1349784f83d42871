"""Compiles grammars for one tokenizer, with llguidance, which is loaded with the first grammar.

Law: a compiled grammar is a function of its source, the tokenizer and the engine's version, so two ends that
agree on these three forbid the same tokens. Compiling takes bounded time and memory; it belongs in a thread.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from tokenizers import Tokenizer

from common.grammar.deep_stack import with_deep_stack
from common.grammar.errors import GrammarSourceError, UnusableGrammarError
from common.grammar.matcher import MAX_REASON_CHARS, Matcher
from common.grammar.vocabulary import Vocabulary
from common.protocol.grammar import MAX_GRAMMAR_BYTES, Grammar, GrammarKind

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MAX_KEPT = 64  # grammars that stay compiled, used last
MAX_KEPT_BYTES = 256 << 10  # of their sources


class Compiled:
    """A compiled grammar; those who use it hold it."""

    def __init__(self, matcher: "LLMatcher") -> None:
        self.matcher = matcher


class GrammarEngine:
    """The grammars of one tokenizer; safe to use from several threads."""

    def __init__(self, tokenizer: Callable[[], Tokenizer]) -> None:
        """`tokenizer` is called once, with the first grammar; it may raise UnusableGrammarError."""
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None
        self._kept: OrderedDict[Grammar, Compiled | GrammarSourceError] = OrderedDict()
        self._alive: WeakValueDictionary[Grammar, Compiled] = WeakValueDictionary()

    @property
    def name(self) -> str:
        """The engine, its version and a checksum of the tokenizer: both ends must have the same."""
        return self._load().name

    @property
    def in_use(self) -> Collection[Grammar]:
        """The grammars that are compiled and held by someone, here or elsewhere."""
        return list(self._alive)

    def has(self, grammar: Grammar) -> bool:
        """Whether `compile` returns at once, or raises at once."""
        with self._lock:
            return grammar in self._kept or grammar in self._alive

    def compile(self, grammar: Grammar) -> Matcher:
        """A matcher at the beginning of the grammar; UnusableGrammarError in one line."""
        loaded = self._load()
        with self._lock:
            found = self._kept.get(grammar) or self._alive.get(grammar)
        if found is None:
            found = _compile(loaded, grammar)
        with self._lock:
            self._keep(grammar, found)
            if isinstance(found, GrammarSourceError):
                raise found
            return Matcher(found.matcher.deep_copy(), loaded.vocab_size, found)

    def _keep(self, grammar: Grammar, found: Compiled | GrammarSourceError) -> None:
        self._kept[grammar] = found
        self._kept.move_to_end(grammar)
        if isinstance(found, Compiled):
            self._alive[grammar] = found
        while len(self._kept) > MAX_KEPT or sum(map(num_bytes, self._kept)) > max(
            MAX_KEPT_BYTES, num_bytes(grammar)
        ):
            self._kept.popitem(last=False)

    def _load(self) -> "_Loaded":
        with self._lock:
            if self._loaded is None:
                self._loaded = _Loaded(self._tokenizer())
            return self._loaded


def num_bytes(grammar: Grammar) -> int:
    """The size of a grammar's source; compiled, it takes up to some hundred times as much memory."""
    return len(grammar.source.encode(errors="surrogatepass"))


def _compile(loaded: "_Loaded", grammar: Grammar) -> Compiled | GrammarSourceError:
    """The compiled grammar, or why it cannot be compiled, so that this is tried once."""
    try:
        return Compiled(with_deep_stack(lambda: loaded.compile(grammar)))
    except GrammarSourceError as error:
        return error


class _Loaded:
    """llguidance with the table of a tokenizer; `vocab_size` is that of the tokenizer.

    The end of the grammar is one token behind the vocabulary, so that it stands for no token of the model.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        try:
            import llguidance  # megabytes, for constrained requests alone
        except ImportError as error:
            raise UnusableGrammarError(
                "a grammar needs llguidance, which is not installed; install the extra `edge` or `cloud`"
            ) from error
        self._engine = llguidance
        vocabulary = Vocabulary(tokenizer)
        self.vocab_size = vocabulary.size
        self.name = f"llguidance {llguidance.__version__} {vocabulary.checksum:08x}"
        wrapped = _Wrapped(vocabulary)
        self._table: LLTokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(wrapped))
        wrapped.table = self._table

    def compile(self, grammar: Grammar) -> "LLMatcher":
        if (size := num_bytes(grammar)) > MAX_GRAMMAR_BYTES:
            raise GrammarSourceError(
                f"the grammar has {size} bytes, more than {MAX_GRAMMAR_BYTES}: shorten it"
            )
        limits = self._engine.LLParserLimits(verbose_errors=False)  # all others are the defaults
        source = self._translated(grammar)
        matcher = self._engine.LLMatcher(self._table, source, log_level=0, limits=limits)
        if matcher.is_error():
            raise GrammarSourceError(f"the grammar cannot be used: {_one_line(matcher.get_error())}")
        Matcher(matcher, self.vocab_size).allowed(())  # some limits show only here
        return matcher

    def _translated(self, grammar: Grammar) -> str:
        of = self._engine.LLMatcher
        try:
            match grammar.kind:
                case GrammarKind.JSON_SCHEMA:
                    schema = json.loads(grammar.source)
                    if schema is True:
                        schema = {}
                    return of.grammar_from_json_schema(schema, overrides={"whitespace_flexible": False})
                case GrammarKind.REGEX:
                    return of.grammar_from_regex(grammar.source)
                case GrammarKind.LARK:
                    return of.grammar_from_lark(grammar.source)
        except (ValueError, RecursionError) as error:
            raise GrammarSourceError(f"the grammar cannot be used: {_one_line(str(error))}") from error


class _Wrapped:
    """A vocabulary as llguidance's TokenizerWrapper takes it; `table` is what llguidance makes of it."""

    bos_token_id = None
    table: "LLTokenizer | None" = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.eos_token_id = vocabulary.size
        self.tokens = [*vocabulary.tokens, b"<end of grammar>"]
        self.special_token_ids = [*vocabulary.specials, vocabulary.size]
        self._vocabulary = vocabulary

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode()
        ids = self._vocabulary.encode(text)
        if ids is None and self.table is not None:
            return self.table.greedy_tokenize(text)  # the same at both ends, if not the tokenizer's choice
        return ids or []


def _one_line(detail: Any) -> str:
    """The first line, and the cause where llguidance draws it below a picture of the place."""
    lines = [line.strip() for line in str(detail).splitlines() if line.strip()] or ["no reason is given"]
    causes = [line.removeprefix("error: ") for line in lines[1:] if line.startswith("error: ")]
    line = " ".join([lines[0], *causes[:1]])
    return line if len(line) <= MAX_REASON_CHARS else f"{line[:MAX_REASON_CHARS]}..."
