"""The slots of an agent: sequences of one draft model, each for one generation at a time.

Law: generations get a slot in the order in which they ask; `edge_agent.slots.choosing` decides which.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from edge_agent.generation.drafting import NextTokenModel, PromptReader
from edge_agent.slots.choosing import Held, choose


class Slots:
    """Lends a sequence to each generation. A model without a cache serves all slots itself."""

    def __init__(self, model: NextTokenModel, num_slots: int) -> None:
        self.num_waiting = 0
        self._models = [model]
        for _ in range(1, num_slots):
            self._models.append(model.another() if isinstance(model, PromptReader) else model)
        self._last_used = [0] * num_slots
        self._num_uses = 0
        self._free = set(range(num_slots))
        self._places = asyncio.Semaphore(num_slots)

    def __len__(self) -> int:
        return len(self._models)

    @asynccontextmanager
    async def one_for(self, prompt: Sequence[int]) -> AsyncGenerator[NextTokenModel]:
        """Wait for a free slot, and lend the one that suits `prompt` for as long as the block lasts."""
        self.num_waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.num_waiting -= 1
        slot = choose(prompt, {one: Held(self._cached(one), self._last_used[one]) for one in self._free})
        self._free.remove(slot)
        try:
            yield self._models[slot]
        finally:
            self._num_uses += 1
            self._last_used[slot] = self._num_uses
            self._free.add(slot)
            self._places.release()

    def _cached(self, slot: int) -> Sequence[int]:
        model = self._models[slot]
        return model.cached if isinstance(model, PromptReader) else ()
