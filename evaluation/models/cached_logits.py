"""Logits cached by prefix, so that sweeps over one set of prompts run each model only once.

Law: a cached row is the row that the model computed for exactly this prefix. Rows are found by the whole
prefix, and files by the hash of the model's files and its precision; a row that never reached the disk is
computed again. So a cache cannot be stale, and an interrupted run resumes.
"""

import hashlib
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from cloud_worker.passes.forward_pass import Pass, common_prefix
from common.process.settings import SettingsError
from edge_agent.generation.drafting import NextTokenModel

Row = npt.NDArray[np.float32]
Rows = npt.NDArray[np.float32]

MEMORY_BYTES = 512 << 20  # per model; rows that do not fit are read from the disk again
NUM_PENDING = 256  # rows between two writes to the disk: how many a crash can lose
LOCK_TIMEOUT = 60.0  # seconds that another process may lock the file


class TargetLike(Protocol):
    """The part of a target model that a worker needs; `TargetModel` is the real one."""

    vocabulary: Mapping[str, int]
    eos_ids: frozenset[int]
    vocab_size: int
    max_positions: int

    def logits(self, passes: Sequence[Pass]) -> Sequence[Rows]:
        """Return one float32 array [num_rows, width] per pass."""
        ...

    def forget(self, session: Hashable) -> None:
        """Free a session's cache."""
        ...


class RowStore:
    """Maps a prefix to a float32 row [width], in memory and, with a path, in an SQLite file.

    Several processes may use one file at the same time. It is written in transactions, so a crash leaves it
    consistent.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open or create the file (SettingsError on failure); without one, rows are kept in memory only."""
        self.num_computed = 0  # rows that the model had to compute
        self._rows: OrderedDict[bytes, Row] = OrderedDict()
        self._num_bytes = 0
        self._pending: dict[bytes, bytes] = {}
        self._lock = threading.Lock()  # models run in worker threads
        self._file: sqlite3.Connection | None = None
        if path is not None:
            self._file = _open(path)

    def get(self, key: bytes) -> Row | None:
        """Return the row of a prefix, read-only; None if it is not known."""
        with self._lock:
            row = self._rows.get(key)
            if row is None and (packed := self._read(key)) is not None:
                row = np.frombuffer(packed, np.float32)
                self._remember(key, row)
            return row

    def put(self, key: bytes, row: Row) -> None:
        """Remember a row that the model computed."""
        kept = row.astype(np.float32)
        kept.flags.writeable = False
        with self._lock:
            self.num_computed += 1
            self._remember(key, kept)
            if self._file is not None:
                self._pending[key] = kept.tobytes()
                if len(self._pending) >= NUM_PENDING:
                    self._write()

    def close(self) -> None:
        """Write what is pending and close the file."""
        with self._lock:
            if self._file is not None:
                self._write()
                self._file.close()
                self._file = None

    def _remember(self, key: bytes, row: Row) -> None:
        if key not in self._rows:
            self._num_bytes += row.nbytes
        self._rows[key] = row
        while self._num_bytes > MEMORY_BYTES and len(self._rows) > 1:
            _, gone = self._rows.popitem(last=False)
            self._num_bytes -= gone.nbytes

    def _read(self, key: bytes) -> bytes | None:
        if self._file is None or key in self._pending:
            return self._pending.get(key)
        found = self._file.execute("SELECT row FROM rows WHERE prefix = ?", (key,)).fetchone()
        return found[0] if found else None

    def _write(self) -> None:
        assert self._file is not None
        with self._file:  # one transaction: all or nothing
            self._file.executemany("INSERT OR IGNORE INTO rows VALUES (?, ?)", self._pending.items())
        self._pending.clear()


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = sqlite3.connect(path, timeout=LOCK_TIMEOUT, check_same_thread=False)
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("CREATE TABLE IF NOT EXISTS rows (prefix BLOB PRIMARY KEY, row BLOB NOT NULL)")
    except (sqlite3.Error, OSError) as error:
        raise SettingsError(
            f"cannot use the logits cache {path} ({error}): choose another --cache"
        ) from error
    return file


def prefix_keys(tokens: Sequence[int], num_last: int = 1) -> list[bytes]:
    """Return the keys of the `num_last` longest prefixes of `tokens`, shortest first."""
    packed = np.asarray(tokens, "<i4").tobytes()
    first = len(tokens) - num_last + 1
    digest = hashlib.blake2b(packed[: 4 * first], digest_size=16)
    keys = [digest.digest()] if num_last else []
    for end in range(first + 1, len(tokens) + 1):
        digest.update(packed[4 * (end - 1) : 4 * end])
        keys.append(digest.digest())
    return keys


class CachedDraft:
    """A draft model that answers known prefixes from the cache; replaces `DraftModel`."""

    def __init__(self, model: NextTokenModel, store: RowStore) -> None:
        self._model = model
        self._store = store

    @property
    def max_positions(self) -> int:
        """The model's."""
        return self._model.max_positions

    def logits(self, tokens: Sequence[int]) -> Row:
        """Return the logits [width] of the token after `tokens`, the whole sequence; read-only."""
        (key,) = prefix_keys(tokens)
        row = self._store.get(key)
        if row is None:
            row = self._model.logits(tokens)
            self._store.put(key, row)
        return row


class CachedTarget:
    """A target model that answers known prefixes from the cache; replaces `TargetModel` in a worker.

    `num_missing` and `cached_tokens` describe the key-value caches of a real worker, not these rows, so that
    computing times can be simulated: each session keeps its last pass, and nothing is evicted.
    """

    def __init__(self, model: TargetLike, store: RowStore) -> None:
        self._model = model
        self._store = store
        self._held: dict[Hashable, Sequence[int]] = {}
        self.vocabulary = model.vocabulary
        self.eos_ids = model.eos_ids
        self.vocab_size = model.vocab_size
        self.max_positions = model.max_positions

    @property
    def num_sessions(self) -> int:
        """How many sessions have a cache."""
        return len(self._held)

    def logits(self, passes: Sequence[Pass]) -> list[Rows]:
        """Return one float32 array [num_rows, width] per pass; the model runs passes with an unknown row."""
        known = [self._known(one) for one in passes]
        missing = [one for one, rows in zip(passes, known, strict=True) if rows is None]
        made = iter(self._model.logits(missing) if missing else ())
        for one in passes:
            self._held[one.session] = one.tokens
        return [
            rows if rows is not None else self._store_rows(one, next(made))
            for one, rows in zip(passes, known, strict=True)
        ]

    def row(self, tokens: Sequence[int]) -> Row:
        """Return the logits [width] of the token after `tokens`, outside any session."""
        return self.rows(tokens, 1)[0]

    def rows(self, tokens: Sequence[int], num_rows: int) -> Rows:
        """Return the logits [num_rows, width] after the last positions of `tokens`, outside any session."""
        one = Pass("", tokens, num_rows)
        known = self._known(one)
        return known if known is not None else self._store_rows(one, self._model.logits([one])[0])

    def num_missing(self, one: Pass) -> int:
        """Return how many positions a worker's model would compute for this pass."""
        return len(one.tokens) - one.start(common_prefix(self._held.get(one.session, ()), one.tokens))

    def cached_tokens(self, session: Hashable) -> int:
        """Return how many tokens of a session a worker's model would hold."""
        return len(self._held.get(session, ()))

    def forget(self, session: Hashable) -> None:
        """Forget a session that is over; its rows stay cached."""
        self._held.pop(session, None)
        self._model.forget(session)

    def _known(self, one: Pass) -> Rows | None:
        found = [self._store.get(key) for key in prefix_keys(one.tokens, one.num_rows)]
        rows = [row for row in found if row is not None]
        if len(rows) < len(found):
            return None
        return np.stack(rows) if rows else np.zeros((0, self.vocab_size), np.float32)

    def _store_rows(self, one: Pass, rows: Rows) -> Rows:
        for key, row in zip(prefix_keys(one.tokens, one.num_rows), rows, strict=True):
            self._store.put(key, row)
        return rows


class Stores:
    """The row stores of a pair; leaving `with Stores(...)` writes pending rows."""

    def __init__(self, folder: Path | None, draft_key: str, target_key: str) -> None:
        """`folder` None keeps everything in memory; the keys name a model and its precision."""
        self.draft = RowStore(folder / f"draft-{draft_key}.sqlite" if folder else None)
        self.target = RowStore(folder / f"target-{target_key}.sqlite" if folder else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.draft.close()
        self.target.close()
