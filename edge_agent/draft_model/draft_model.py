"""The draft model: tokens in, the logits of the next token out, with a key/value cache that it hides.

Law: `logits(tokens)` is a function of `tokens`, and of the length of the prompt where `begin_text` gives it.
Callers pass the whole sequence each time and never manage the cache: the part shared with the previous call
is kept, the rest is rewound, and only new tokens are run. Several sequences over one loaded graph have a
cache each (`another`), and one copies from another what both begin with.

The numbers of a quantised graph depend on how tokens are split into runs: a run of one token takes another
kernel than a run of several, and dynamic int8 scales activations over a whole run. `canonical_runs` has the
split that restores the law for such a graph.
"""

from collections.abc import Callable, Generator, Sequence
from copy import copy
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_agent.device.memory import release_free_memory, release_read_pages
from edge_agent.draft_model.canonical_runs import RUN, kept, runs
from edge_agent.draft_model.files import read_info
from edge_agent.draft_model.graph import Graph, read_graph
from edge_agent.draft_model.kv_cache import Cache, GrowingCache, SharedCache, empty
from edge_agent.draft_model.onnx_session import Array, OnnxSession
from edge_agent.draft_model.prompt_store import LEAST_GAIN, PromptStore, open_store
from edge_agent.errors import ModelError
from edge_agent.slots.choosing import common_length

Logits: TypeAlias = npt.NDArray[np.float32]
Progress: TypeAlias = tuple[int, int]  # tokens that were run, and that are to be run

CHUNK = 128  # tokens per run: bounds the logits of a long prompt, 75 MB with a vocabulary of 150,000
_PROBE_CAPACITY = 8
_PROBE_TOKENS = 4
_FLOAT_NOISE = 1e-4  # of the largest logit: what the order of float32 sums explains


class DraftModel:
    """One sequence of a causal language model in ONNX Runtime; not thread-safe, nor are several of one graph.

    `logits_size` is the width of the logits, which may exceed the tokenizer's vocabulary (padding);
    `max_positions` is the longest sequence, and `splits_matter` is true of a graph whose numbers depend on
    how tokens are split into runs.
    """

    def __init__(
        self,
        session: OnnxSession,
        graph: Graph,
        cache: Cache,
        max_positions: int,
        files: Sequence[Path] = (),
    ) -> None:
        """Run a few tokens to learn the logits' width, and whether splits matter. Use `load` instead.

        `files` are those of the graph.
        """
        self._files = files
        self._session = session
        self._graph = graph
        self._cache = cache
        self._tokens: list[int] = []
        self._last: Logits | None = None  # of the token after `_tokens`, unless they were cut since
        self._sequences = [self]  # of this graph
        self._store: PromptStore | None = None
        self.max_positions = max_positions
        self._num_prompt: int | None = None  # of the texts to come
        self._prompt_in_cache: int | None = None  # with which the cache was read
        self.splits_matter = False
        self.logits_size = len(self.logits([0]))
        self.splits_matter = self._differs_between_splits()

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        model_file: str | None = None,
        num_threads: int = 0,
        providers: Sequence[str] = (),
    ) -> "DraftModel":
        """Load the graph in `folder` (the one `read_info` chooses), and try it on one token.

        `num_threads` 0 means one per core; `providers` are ONNX Runtime execution providers in order of
        preference, and none means the CPU. Raises ModelError when the model cannot be used.
        """
        info = read_info(folder, model_file)
        session = OnnxSession.open(info.onnx_path, num_threads=num_threads, providers=providers)
        graph = read_graph(
            session.inputs, session.outputs, num_heads=info.num_cache_heads, head_size=info.head_size
        )
        if writes_in_place(session, graph):
            cache: Cache = SharedCache(session, graph.cache, info.max_positions)
        else:
            cache = GrowingCache(session, graph.cache)
        model = cls(session, graph, cache, info.max_positions, info.graph_files)
        # ONNX Runtime has read the weights, and keeps most of them in an order of its own
        for path in info.graph_files:
            release_read_pages(path)
        release_free_memory()
        return model

    @property
    def position_bytes(self) -> int:
        """Bytes of the key/value cache per position."""
        return sum(one.num_heads * one.head_size * np.dtype(one.dtype).itemsize for one in self._graph.cache)

    @property
    def cached(self) -> Sequence[int]:
        """The tokens in the cache."""
        return self._tokens

    def another(self) -> "DraftModel":
        """One more sequence over the same graph: it takes memory only for its cache, as that grows."""
        other = copy(self)
        other._cache = self._cache.another()
        other._tokens, other._last = [], None
        other._num_prompt = other._prompt_in_cache = None
        self._sequences.append(other)
        return other

    def logits(self, tokens: Sequence[int]) -> Logits:
        """The logits [logits_size], read-only, of the token that follows `tokens`, the whole sequence.

        Raises ModelError when `tokens` is longer than `max_positions`, and ValueError when it is empty.
        """
        steps = self.reading(tokens)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    def reading(self, tokens: Sequence[int]) -> Generator[Progress, None, Logits]:
        """As `logits`, but in steps of one run each: it yields after each run but the last.

        If it is closed there, what has been read stays in the cache. Other sequences may run meanwhile.
        """
        wanted = tokens if isinstance(tokens, list) else list(tokens)
        if not wanted:
            raise ValueError("There is nothing to continue: give at least one token.")
        if len(wanted) > self.max_positions:
            raise ModelError(
                f"The draft model takes {self.max_positions} tokens, not {len(wanted)}: shorten the sequence."
            )
        num_prompt = None if self._num_prompt is None else min(self._num_prompt, len(wanted))
        if self._last is None or wanted != self._tokens or num_prompt != self._prompt_in_cache:
            return (yield from self._read(wanted, num_prompt))
        return self._last

    def begin_text(self, num_prompt: int) -> None:
        """The first `num_prompt` tokens of the sequences to come are the prompt, until the next call."""
        self._num_prompt = num_prompt if self.splits_matter else None

    def num_unread(self, tokens: Sequence[int], num_prompt: int) -> int:
        """How many of `tokens`, with a prompt of this length, `logits` would run now.

        Other sequences may run meanwhile; what they add or lose now is not seen.
        """
        wanted, of_prompt = list(tokens), num_prompt if self.splits_matter else None
        num_kept = self._kept(wanted, of_prompt)
        _, num_shared = self._sharing(wanted, of_prompt)
        return len(wanted) - (num_shared if num_shared - num_kept >= LEAST_GAIN else num_kept)

    def _kept(self, wanted: list[int], num_prompt: int | None) -> int:
        """How many cached positions to keep in order to read `wanted`."""
        common = common_length(wanted, self._tokens)
        if num_prompt is None:
            return min(common, len(wanted) - 1)
        return kept(common, len(wanted), num_prompt, self._prompt_in_cache)

    def keep_prompts(self, folder: str, max_bytes: int, *, providers: Sequence[str]) -> None:
        """Keep what all sequences read in `folder`, and read it from there; raises ConfigError."""
        store = open_store(
            folder, max_bytes, graph_files=self._files, tensors=self._graph.cache, providers=providers
        )
        for one in self._sequences:
            one._store = store

    def save_prompts(self) -> None:
        """Keep what all sequences have read, if that is wanted."""
        for one in self._sequences:
            one.save_prompt()

    def save_prompt(self, num_kept: int = 0) -> None:
        """Keep what the cache has read, if it is to lose all but `num_kept` positions, and if that is wanted.

        In whole runs, so that any text that begins alike can use it; of a graph whose splits matter, only
        the prompt has them.
        """
        num_whole = (self._prompt_in_cache or 0) if self.splits_matter else len(self._tokens)
        length = min(num_whole, len(self._tokens)) // RUN * RUN
        if self._store is not None and length - num_kept >= LEAST_GAIN:
            self._store.save(self._tokens[:length], lambda: self._cache.read(length))

    def _load_prompt(
        self, store: PromptStore, wanted: list[int], num_prompt: int | None, num_kept: int
    ) -> int:
        """Exchange the cache for one from the store that saves more; how many positions to keep then."""
        self.save_prompt(num_kept)
        end = len(wanted) - 1 if num_prompt is None else min(len(wanted) - 1, num_prompt)
        found = store.find(wanted[:end], num_kept)
        if found is None:
            return num_kept
        length, arrays = found
        self._cache.load(arrays, length)
        self._tokens, self._last = wanted[:length], None
        self._prompt_in_cache = None if num_prompt is None else length
        return length

    def _sharing(self, wanted: list[int], num_prompt: int | None) -> tuple["DraftModel", int]:
        """The other sequence that has most of `wanted`, and how many positions; this one if there is none."""
        found = [(one, one._kept(wanted, num_prompt)) for one in self._sequences if one is not self]
        return max(found, key=lambda one: one[1], default=(self, 0))

    def _copy_beginning(self, wanted: list[int], num_prompt: int | None, num_kept: int) -> int:
        """Copy what another sequence has of `wanted`, if that saves more; how many positions to keep then."""
        other, length = self._sharing(wanted, num_prompt)
        if length - num_kept < LEAST_GAIN:
            return num_kept
        self.save_prompt(num_kept)
        self._cache.load({name: one.copy() for name, one in other._cache.read(length).items()}, length)
        self._tokens, self._last = wanted[:length], None
        self._prompt_in_cache = other._prompt_in_cache
        return length

    def _read(self, wanted: list[int], num_prompt: int | None) -> Generator[Progress, None, Logits]:
        """Make the cache hold `wanted`, of which the last token has just been run; its logits."""
        num_kept = self._kept(wanted, num_prompt)
        if len(self._sequences) > 1 and len(wanted) - num_kept > LEAST_GAIN:
            num_kept = self._copy_beginning(wanted, num_prompt, num_kept)
        if self._store is not None and len(wanted) - num_kept > LEAST_GAIN:
            num_kept = self._load_prompt(self._store, wanted, num_prompt, num_kept)
        self._rewind(num_kept)
        if num_prompt is None:
            ends = [*range(len(self._tokens) + CHUNK, len(wanted), CHUNK), len(wanted)]
        else:
            ends = runs(len(self._tokens), len(wanted), num_prompt)
        self._prompt_in_cache = num_prompt
        start = len(self._tokens)
        for end in ends[:-1]:
            self._extend(wanted[len(self._tokens) : end])
            yield end - start, len(wanted) - start
        return self._extend(wanted[len(self._tokens) :])

    def _differs_between_splits(self) -> bool:
        """Whether a few tokens read in one run give other numbers than one by one."""
        tokens = [index % self.logits_size for index in range(min(_PROBE_TOKENS, self.max_positions))]
        one_by_one = self.logits(tokens[:1])
        for length in range(2, len(tokens) + 1):
            one_by_one = self.logits(tokens[:length])
        self._rewind(0)
        moved = np.abs(self.logits(tokens) - one_by_one).max()
        return bool(moved > _FLOAT_NOISE * max(1.0, np.abs(one_by_one).max()))

    def _rewind(self, length: int) -> None:
        self._cache.rewind(length)
        del self._tokens[length:]
        self._last = None

    def _extend(self, tokens: list[int]) -> Logits:
        """Run `tokens` after those in the cache, and return the last logits.

        A run that fails leaves the cache as it was.
        """
        arrays = _inputs(self._graph, tokens, len(self._tokens))
        binding = self._cache.bind(len(tokens))
        logits = self._session.run(binding, arrays)
        self._cache.keep(binding, len(tokens))
        self._tokens += tokens
        # one position's logits are a new buffer of their own; a row of many would keep all of them
        last = self._last = logits[0, -1].astype(np.float32, copy=logits.shape[1] > 1)
        last.flags.writeable = False
        return last


def writes_in_place(session: OnnxSession, graph: Graph) -> bool:
    """Whether attention writes new positions into the past's buffer (GroupQueryAttention), found by trying.

    One token is run on an empty past in a longer buffer. Such a graph returns a present as long as the
    buffer; any other graph returns a longer one, or fails because the mask does not fit.
    """
    past = {tensor.past: session.buffer(empty(tensor, _PROBE_CAPACITY)) for tensor in graph.cache}
    binding = session.bind(past, {tensor.present: None for tensor in graph.cache})
    try:
        session.run(binding, _inputs(graph, [0], 0))
    except ModelError:
        return False
    present = session.present(binding)
    return all(present[tensor.present].shape()[2] == _PROBE_CAPACITY for tensor in graph.cache)


def _inputs(graph: Graph, tokens: list[int], length: int) -> dict[str, Array]:
    """All inputs except the cache, for `tokens` that follow `length` positions."""
    return {name: _INPUTS[name](tokens, length, dtype or np.bool_) for name, dtype in graph.inputs.items()}


def _all_positions(tokens: list[int], length: int, dtype: type[np.generic]) -> Array:
    return np.ones((1, length + len(tokens)), dtype)


def _new_positions(tokens: list[int], length: int, dtype: type[np.generic]) -> Array:
    return np.arange(length, length + len(tokens), dtype=dtype)[np.newaxis]


def _one(_tokens: list[int], _length: int, dtype: type[np.generic]) -> Array:
    return np.array(1, dtype)


_INPUTS: dict[str, Callable[[list[int], int, type[np.generic]], Array]] = {
    "input_ids": lambda tokens, _, dtype: np.array([tokens], dtype),
    "attention_mask": _all_positions,
    "position_ids": _new_positions,
    "num_logits_to_keep": _one,
    "logits_to_keep": _one,
    "use_cache_branch": lambda _, length, dtype: np.array([length > 0], dtype),
}
