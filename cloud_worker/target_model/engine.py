"""The interface of everything that runs a model for many sessions, and the trial that checks one.

Law: an engine is used only after its logits have agreed with a plain forward pass on this very model.
"""

from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedModel

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.target_model.arrays import FloatRows, to_numpy

TRIAL_LENGTH = 40
TRIAL_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
)


class LogitsEngine(Protocol):
    """Runs the passes of many sessions and keeps their caches."""

    @property
    def num_sessions(self) -> int:
        """How many sessions have a cache."""
        ...

    @property
    def num_pages(self) -> int:
        """How many pages the caches may use."""
        ...

    @property
    def num_used_pages(self) -> int:
        """How many pages sessions use, each counted once."""
        ...

    def cached_tokens(self, session: Hashable) -> int:
        """How many tokens of a session are cached."""
        ...

    def num_missing(self, one: Pass) -> int:
        """How many positions a pass would compute now."""
        ...

    def forget(self, session: Hashable) -> None:
        """Drop a session's cache; an unknown session is not an error."""
        ...

    def rows(self, passes: Sequence[Pass]) -> list[torch.Tensor]:
        """The logits [num_rows, vocab_size] of each pass, in order, on the device that made them."""
        ...


def plain_logits(model: PreTrainedModel, tokens: Sequence[int]) -> FloatRows:
    """Logits [len(tokens), vocab_size] of one forward pass without a cache: the reference."""
    ids = torch.tensor([list(tokens)], device=model.device)
    return to_numpy(model(input_ids=ids, use_cache=False).logits[0])


class Trial:
    """Two short sequences with a common beginning and their plain logits, to check an engine against."""

    def __init__(self, model: PreTrainedModel) -> None:
        vocab_size = model.config.get_text_config().vocab_size
        draw = np.random.default_rng(0)
        first = draw.integers(0, vocab_size, TRIAL_LENGTH).tolist()
        second = first[:25] + draw.integers(0, vocab_size, TRIAL_LENGTH - 25).tolist()
        self._sequences = [(tokens, plain_logits(model, tokens)) for tokens in (first, second)]
        self._tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
        self.vocab_size = self._sequences[0][1].shape[1]

    def fault(self, engine: LogitsEngine) -> str | None:
        """Why the engine cannot be used: it raised, or its logits are off; None if it can."""
        try:
            worst = self._worst_error(engine)
        except TRIAL_ERRORS as error:
            return f"{type(error).__name__}: {error}"
        return f"logits are off by {worst:.1%}" if not worst <= self._tolerance else None

    def _worst_error(self, engine: LogitsEngine) -> float:
        """The largest error relative to the largest logit, over prompts, blocks, rewinds and sharing."""
        errors: list[float] = []
        for ends in ((20, 12), (24, 30), (29, 31), (40, 27), (33, 40)):
            passes = [
                Pass(f"trial {i}", self._sequences[i][0][:end], min(7, end)) for i, end in enumerate(ends)
            ]
            for (_, expected), one, rows in zip(self._sequences, passes, engine.rows(passes), strict=True):
                wanted = expected[one.first_row : len(one.tokens)]
                errors.append(float(np.abs(to_numpy(rows) - wanted).max() / np.abs(wanted).max()))
        for i in range(len(self._sequences)):
            engine.forget(f"trial {i}")
        return float(np.max(errors))  # nan stays nan, which is a fault
