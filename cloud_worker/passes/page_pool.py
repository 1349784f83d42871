"""Which session uses which page of the key/value pool: sharing, copying, eviction. Pure bookkeeping.

A page holds the keys and values of `page_size` consecutive positions. Sessions that begin with the same
tokens share pages; a page that several sessions use is never written to, only copied. A full page is found
by its content: the id of the page before it and its tokens, compared exactly (so no hash can collide).
Unused pages keep their content until they are needed.

Law: the positions before `Placement.start` hold exactly the content of the given tokens. An owner keeps more
than its share of the pages only while no other owner needs them.
"""

from collections import Counter, OrderedDict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from cloud_worker.passes.forward_pass import common_prefix

_Content: TypeAlias = tuple[int, tuple[int, ...]]  # the chain id of the page before, and this page's tokens
_FIRST = 0  # the chain id before the first page

OWNER_SHARE = 0.5  # of the pages; sessions of an owner that holds more are evicted first


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a sequence is stored: position i is entry i % page_size of pages[i // page_size].

    The caller makes the `copies` (from page, to page), then computes and writes positions from `start` on.
    """

    start: int
    pages: tuple[int, ...]
    copies: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True)
class _Session:
    tokens: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    chain: list[int] = field(default_factory=list)  # one id per full page: equal ids mean equal beginnings
    owner: Hashable = None


def first_to_go(
    sessions: Mapping[Hashable, tuple[Hashable, int]], max_owned: int, protected: Collection[Hashable] = ()
) -> Hashable:
    """Which of the `sessions` (owner and size of each, oldest first) to evict; at least one is not protected.

    It is the oldest one of an owner that holds more than `max_owned` in total, otherwise the oldest of all.
    """
    owned: Counter[Hashable] = Counter()
    for owner, size in sessions.values():
        owned[owner] += size
    del owned[None]
    candidates = [session for session in sessions if session not in protected]
    above = (session for session in candidates if owned[sessions[session][0]] > max_owned)
    return next(above, candidates[0])


class PagePool:
    """Pages 0 .. num_pages - 1, assigned to sessions.

    When they run out, the least recently placed session is evicted; sessions of an owner that holds more than
    `owner_share` of all pages go first.
    """

    def __init__(self, num_pages: int, page_size: int = 16, owner_share: float = OWNER_SHARE) -> None:
        self.page_size = page_size
        self.num_pages = num_pages
        self._max_owned = int(owner_share * num_pages)
        self._num_users = [0] * num_pages
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(
            range(num_pages)
        )  # the next to be used first
        self._sessions: OrderedDict[Hashable, _Session] = OrderedDict()  # least recently placed first
        self._known: dict[_Content, tuple[int, int]] = {}  # content -> page, chain id
        self._content_of: dict[int, _Content] = {}
        self._last_id = _FIRST

    @property
    def num_sessions(self) -> int:
        """How many sessions hold pages."""
        return len(self._sessions)

    @property
    def num_free(self) -> int:
        """How many pages are unused (they may still hold content that can be shared)."""
        return len(self._free)

    def cached_tokens(self, session: Hashable) -> int:
        """How many leading tokens of a session its pages hold."""
        held = self._sessions.get(session)
        return len(held.tokens) if held else 0

    def find(self, session: Hashable, tokens: Sequence[int], limit: int) -> int:
        """The `Placement.start` that `place` would return now, without any change."""
        held = self._sessions.get(session) or _Session()
        num_kept = common_prefix(held.tokens, tokens)
        num_full = num_kept // self.page_size
        shared = self._shareable(held.chain[:num_full], tokens)
        return min(limit, max(num_kept, (num_full + len(shared)) * self.page_size))

    def place(
        self,
        session: Hashable,
        tokens: Sequence[int],
        limit: int,
        pinned: Collection[Hashable] = (),
        owner: Hashable = None,
    ) -> Placement | None:
        """Assign pages for all `tokens` of a session of `owner`, reusing at most `limit` leading positions.

        None if there is no room without evicting a pinned session. Until `commit`, only the full pages that
        were already present count as cached, so a placement may be abandoned at any time.
        """
        held = self._sessions.pop(session, None) or _Session(owner=owner)
        self._sessions[session] = held  # now the most recently placed
        self._rewind(held, min(common_prefix(held.tokens, tokens), limit))
        self._adopt(held, tokens, limit)
        start = len(held.tokens)
        protected = {session, *pinned}
        copies = self._own_last_page(held, protected)
        del held.tokens[len(held.chain) * self.page_size :]
        num_pages = -(-len(tokens) // self.page_size)
        if copies is None or not self._grow(held, num_pages, protected):
            self._rewind(held, len(held.tokens))
            return None
        return Placement(start, tuple(held.pages), copies)

    def commit(self, session: Hashable, tokens: Sequence[int]) -> None:
        """The placed `tokens` have been written: they count as cached, and their full pages can be shared."""
        held = self._sessions[session]
        held.tokens = list(tokens)
        for index in range(len(held.chain), len(tokens) // self.page_size):
            content = self._content(held.chain, tokens)
            known = self._known.get(content)
            if known is None:
                self._last_id += 1
                known = self._known[content] = (held.pages[index], self._last_id)
                self._content_of[held.pages[index]] = content
            held.chain.append(known[1])

    def release(self, session: Hashable) -> None:
        """Free a session's pages; an unknown session is not an error."""
        held = self._sessions.pop(session, None)
        if held is not None:
            self._rewind(held, 0)

    def _rewind(self, held: _Session, num_tokens: int) -> None:
        del held.tokens[num_tokens:]
        del held.chain[num_tokens // self.page_size :]
        while len(held.pages) * self.page_size >= num_tokens + self.page_size:
            self._drop(held.pages.pop())  # the last first, so that beginnings stay shareable the longest

    def _adopt(self, held: _Session, tokens: Sequence[int], limit: int) -> None:
        """Continue with pages that already hold the next tokens; the last one counts only up to `limit`."""
        for page, chain_id in self._shareable(held.chain, tokens):
            begin = len(held.chain) * self.page_size
            end = min(begin + self.page_size, limit)
            if end <= len(held.tokens):
                break
            if len(held.pages) > len(held.chain):
                self._drop(held.pages.pop())
            self._use(page)
            held.pages.append(page)
            held.tokens[begin:] = tokens[begin:end]
            if end == begin + self.page_size:
                held.chain.append(chain_id)

    def _shareable(self, chain: Sequence[int], tokens: Sequence[int]) -> list[tuple[int, int]]:
        """Known full pages (page, chain id) that continue `chain` along `tokens`."""
        found: list[tuple[int, int]] = []
        ids = list(chain)
        while (len(ids) + 1) * self.page_size <= len(tokens):
            known = self._known.get(self._content(ids, tokens))
            if known is None:
                break
            found.append(known)
            ids.append(known[1])
        return found

    def _content(self, chain: Sequence[int], tokens: Sequence[int]) -> _Content:
        begin = len(chain) * self.page_size
        return (chain[-1] if chain else _FIRST, tuple(tokens[begin : begin + self.page_size]))

    def _own_last_page(
        self, held: _Session, protected: Collection[Hashable]
    ) -> tuple[tuple[int, int], ...] | None:
        """Make a partly full last page writable: copy it if it is shared. None if there is no room to."""
        if len(held.tokens) % self.page_size == 0:
            return ()
        page = held.pages[-1]
        copy = self._take(protected) if self._num_users[page] > 1 else None
        if copy is None:
            self._forget_content(page)
            return () if self._num_users[page] == 1 else None
        self._drop(page)
        held.pages[-1] = copy
        return ((page, copy),)

    def _grow(self, held: _Session, num_pages: int, protected: Collection[Hashable]) -> bool:
        while len(held.pages) < num_pages:
            page = self._take(protected)
            if page is None:
                return False
            held.pages.append(page)
        return True

    def _take(self, protected: Collection[Hashable]) -> int | None:
        """A page for one session, its old content forgotten; evicts sessions if no page is free."""
        while not self._free:
            sizes = {session: (held.owner, len(held.pages)) for session, held in self._sessions.items()}
            if all(session in protected for session in sizes):
                return None
            self.release(first_to_go(sizes, self._max_owned, protected))
        page = next(iter(self._free))
        self._forget_content(page)
        self._use(page)
        return page

    def _use(self, page: int) -> None:
        self._free.pop(page, None)
        self._num_users[page] += 1

    def _drop(self, page: int) -> None:
        self._num_users[page] -= 1
        if self._num_users[page] == 0:
            self._free[page] = None
            if page not in self._content_of:
                self._free.move_to_end(page, last=False)

    def _forget_content(self, page: int) -> None:
        content = self._content_of.pop(page, None)
        if content is not None:
            del self._known[content]
