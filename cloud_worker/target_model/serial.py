"""One session after the other, each with a cache from transformers: slow, but correct for most models.

Law: a rewound cache gives the logits of a cache that never held the removed tokens. So every layer keeps all
its entries, even with a sliding window: masks hide what is outside, whereas dropped entries cannot come back.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache, PreTrainedModel

from cloud_worker.passes.forward_pass import Pass, common_prefix
from cloud_worker.passes.page_pool import OWNER_SHARE, first_to_go
from common.transformers_cache import cache_argument


@dataclass(slots=True)
class _Session:
    cache: DynamicCache = field(default_factory=DynamicCache)
    tokens: list[int] = field(default_factory=list)
    owner: Hashable = None


class SerialEngine:
    """One cache per session; the least recently used are dropped when all together exceed `max_tokens`.

    Sessions of an owner that holds more than OWNER_SHARE of that go first.
    """

    def __init__(self, model: PreTrainedModel, vocab_size: int, max_tokens: int, chunk_tokens: int) -> None:
        self._model = model
        self._cache_argument = cache_argument(model.forward)
        self._vocab_size = vocab_size
        self._max_tokens = max_tokens
        self._chunk_tokens = chunk_tokens
        self._sessions: OrderedDict[Hashable, _Session] = OrderedDict()

    @property
    def num_sessions(self) -> int:
        """How many sessions have a cache."""
        return len(self._sessions)

    @property
    def num_pages(self) -> int:
        """How many tokens all caches may hold: without a pool, a page is one token."""
        return self._max_tokens

    @property
    def num_used_pages(self) -> int:
        """How many tokens they hold."""
        return sum(len(session.tokens) for session in list(self._sessions.values()))

    def cached_tokens(self, session: Hashable) -> int:
        """How many tokens of a session are cached."""
        held = self._sessions.get(session)
        return len(held.tokens) if held else 0

    def num_missing(self, one: Pass) -> int:
        """How many positions a pass would compute now."""
        held = self._sessions.get(one.session)
        return len(one.tokens) - one.start(common_prefix(held.tokens, one.tokens) if held else 0)

    def forget(self, session: Hashable) -> None:
        """Drop a session's cache; an unknown session is not an error."""
        self._sessions.pop(session, None)

    def rows(self, passes: Sequence[Pass]) -> list[torch.Tensor]:
        """The logits [num_rows, vocab_size] of each pass, in order."""
        return [self._run(one) for one in passes]

    def _run(self, one: Pass) -> torch.Tensor:
        session = self._sessions.pop(one.session, None) or _Session(owner=one.owner)
        start = one.start(common_prefix(session.tokens, one.tokens))
        if start < len(session.tokens):
            session.cache.crop(start - len(session.tokens))  # negative: that many from the end
        session.tokens = list(one.tokens[:start])
        self._make_room(len(one.tokens))
        rows = self._extend(session, one)
        self._sessions[one.session] = session  # only now, so that a failed run leaves no half-written cache
        return rows

    def _extend(self, session: _Session, one: Pass) -> torch.Tensor:
        rows = [torch.empty((0, self._vocab_size), dtype=self._model.dtype, device=self._model.device)]
        for begin in range(len(session.tokens), len(one.tokens), self._chunk_tokens):
            end = min(begin + self._chunk_tokens, len(one.tokens))
            num_rows = max(0, end - max(begin, one.first_row))
            chunk = list(one.tokens[begin:end])
            output = self._model(
                input_ids=torch.tensor([chunk], device=self._model.device),
                use_cache=True,
                logits_to_keep=max(1, num_rows),  # 0 would mean all
                **{self._cache_argument: session.cache},
            )
            session.tokens += chunk
            rows.append(output.logits[0, output.logits.shape[1] - num_rows :])
        return torch.cat(rows)

    def _make_room(self, num_tokens: int) -> None:
        total = sum(len(session.tokens) for session in self._sessions.values())
        while self._sessions and total + num_tokens > self._max_tokens:
            sizes = {key: (held.owner, len(held.tokens)) for key, held in self._sessions.items()}
            victim = first_to_go(sizes, int(OWNER_SHARE * self._max_tokens))
            total -= len(self._sessions.pop(victim).tokens)
