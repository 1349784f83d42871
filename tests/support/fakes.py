"""Models with known answers: logits are a pure function of the last tokens, so every law can be computed."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from cloud_worker.passes.forward_pass import Pass
from common.protocol.grammar import AnswerGrammar
from common.protocol.messages import Opening
from common.sampling.distribution import Sampling

VOCAB_SIZE = 12
TOKENIZER = b"fakefake"


class FakeModel:
    """Logits [vocab_size] from the last two tokens; `noise` mixes in what another model would say."""

    def __init__(
        self, seed: int, *, vocab_size: int = VOCAB_SIZE, noise: float = 0.0, scale: float = 2.0
    ) -> None:
        self.vocab_size = vocab_size
        self._seed, self._noise, self._scale = seed, noise, scale

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        shared = self._normal(0, tokens)
        own = self._normal(self._seed, tokens)
        return (self._scale * ((1 - self._noise) * shared + self._noise * own)).astype(np.float32)

    def rows(self, tokens: Sequence[int], num_rows: int) -> np.ndarray:
        """Logits [num_rows, vocab_size] for the last positions, as a target model gives them."""
        ends = range(len(tokens) - num_rows + 1, len(tokens) + 1)
        return np.stack([self.logits(tokens[:end]) for end in ends])

    def _normal(self, seed: int, tokens: Sequence[int]) -> np.ndarray:
        return np.random.default_rng([seed, *tokens[-2:]]).normal(size=self.vocab_size)


def opening(
    seed: int = 1,
    temperature: float = 1.0,
    vocab_size: int = VOCAB_SIZE,
    *,
    sampling: Sampling | None = None,
    num_prompt: int = 0,
    grammar: AnswerGrammar | None = None,
) -> Opening:
    return Opening(
        TOKENIZER,
        vocab_size,
        sampling or Sampling(temperature),
        seed,
        num_prompt=num_prompt,
        grammar=grammar,
    )


class UncachedTarget:
    """The facts of a target model without a cache, for `LocalEngine`; a test adds `logits`."""

    eos_ids: frozenset[int] = frozenset()
    max_positions = 64
    num_pages = num_used_pages = 0

    def __init__(self) -> None:
        self.vocabulary: Mapping[str, int] = {}
        self.forgotten: list[Hashable] = []

    def num_missing(self, one: Pass) -> int:
        return len(one.tokens)

    def cached_tokens(self, _session: Hashable) -> int:
        return 0

    def forget(self, session: Hashable) -> None:
        self.forgotten.append(session)
