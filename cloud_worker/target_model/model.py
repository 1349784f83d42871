"""The target model: logits for many sessions at once, from any model that transformers can load.

Law: logits equal those of a plain forward pass over the whole sequence, regardless of what was cached,
rewound, shared or evicted before (in float32 to about 1e-5; in lower precisions they vary with the batch).
It knows nothing about drafts, sampling or messages.
"""

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import torch
from transformers import PreTrainedModel

from cloud_worker.engines.engine import Verified
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.scheduling.batch import Batch
from cloud_worker.target_model import varlen
from cloud_worker.target_model.arrays import FloatRows, to_numpy
from cloud_worker.target_model.clock import Clock
from cloud_worker.target_model.engine import TRIAL_ERRORS, LogitsEngine, Trial
from cloud_worker.target_model.errors import TargetModelError
from cloud_worker.target_model.graphs import Graphs
from cloud_worker.target_model.judge import Judge
from cloud_worker.target_model.judge.ahead import MaskingAhead
from cloud_worker.target_model.layers import LayerShape, layer_shapes
from cloud_worker.target_model.loading import Loaded, load
from cloud_worker.target_model.packed_engine import PAGE_SIZE, PackedEngine
from cloud_worker.target_model.padded import attend_padded
from cloud_worker.target_model.serial import SerialEngine

MIN_CACHE_TOKENS = 256

_log = logging.getLogger(__name__)


class TargetModel:
    """A model and the caches of its sessions. Not thread-safe: call it from one thread at a time."""

    def __init__(self, loaded: Loaded, *, cache_bytes: int = 1 << 30, chunk_tokens: int = 256) -> None:
        """`cache_bytes` bounds the caches of all sessions, `chunk_tokens` the positions of a forward pass.

        Raises TargetModelError if the model's logits cannot be reproduced from a rewound cache.
        """
        with torch.inference_mode():
            self._engine, self.vocab_size, cache_tokens = _engine(loaded, cache_bytes, chunk_tokens)
        self._device = loaded.model.device
        self._judge = Judge()
        self._masking = MaskingAhead()
        self.vocabulary: Mapping[str, int] = loaded.vocabulary
        self.tokenizer = loaded.tokenizer  # reads it again: only answers with a grammar need it
        self.eos_ids: frozenset[int] = loaded.eos_ids
        self.max_positions: int = min(loaded.max_positions, cache_tokens)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        device: str = "auto",
        dtype: str = "float32",
        device_map: str | None = None,
        num_threads: int = 0,
        cache_bytes: int = 1 << 30,
        chunk_tokens: int = 256,
    ) -> "TargetModel":
        """Load from a Hugging Face folder or hub name; "demo" is the model that comes with the package.

        `num_threads` 0 is torch's default. Raises TargetModelError with a one-line reason.
        """
        if num_threads > 0:
            torch.set_num_threads(num_threads)
        loaded = load(name, device=device, dtype=dtype, device_map=device_map)
        return cls(loaded, cache_bytes=cache_bytes, chunk_tokens=chunk_tokens)

    @property
    def graphs(self) -> Graphs | None:
        """The recorded passes of this model on a GPU; None where none are used."""
        return self._engine.graphs if isinstance(self._engine, PackedEngine) else None

    @property
    def num_sessions(self) -> int:
        """How many sessions have a cache."""
        return self._engine.num_sessions

    @property
    def num_pages(self) -> int:
        """How many pages the caches of all sessions may use together."""
        return self._engine.num_pages

    @property
    def num_used_pages(self) -> int:
        """How many pages sessions use; a shared page counts once."""
        return self._engine.num_used_pages

    def cached_tokens(self, session: Hashable) -> int:
        """How many tokens of a session are cached; 0 for an unknown or evicted one."""
        return self._engine.cached_tokens(session)

    def num_missing(self, one: Pass) -> int:
        """How many positions a pass would compute now, for `in_chunks`."""
        return self._engine.num_missing(one)

    def forget(self, session: Hashable) -> None:
        """Drop a session's cache; an unknown session is not an error."""
        self._engine.forget(session)

    def logits(self, passes: Sequence[Pass]) -> list[FloatRows]:
        """One float32 array [num_rows, vocab_size] per pass, in order; a session may occur only once.

        Blocks until done. Raises ValueError for an unknown token id or more than max_positions tokens.
        """
        return [to_numpy(rows) for rows in self.rows(passes)]

    def rows(self, passes: Sequence[Pass]) -> list[torch.Tensor]:
        """The same as `logits`, in the model's own type on the device that made them."""
        self.check(passes)
        with torch.inference_mode():
            return self._engine.rows(passes)

    def verify(self, batch: Batch) -> Verified:
        """Run a batch and judge its drafts where the logits lie; errors as `logits`."""
        clock = Clock(self._device)
        masking = self._masking.begin(batch)
        try:
            rows = self.rows(batch.passes)
        finally:
            masked = masking.result() if masking is not None else [0.0] * len(batch.tasks)
        clock.mark()
        with torch.inference_mode():
            parts = self._judge.parts(batch, rows)
        verified = clock.measured(parts)
        parts = [
            replace(part, judging_seconds=part.judging_seconds + seconds) if seconds else part
            for part, seconds in zip(verified.parts, masked, strict=True)
        ]
        return replace(verified, parts=parts)

    def check(self, passes: Sequence[Pass]) -> None:
        """Raise the ValueError that `logits` would."""
        if len({one.session for one in passes}) < len(passes):
            raise ValueError("a session occurs twice in one batch")
        for one in passes:
            self._check(one)

    def _check(self, one: Pass) -> None:
        if len(one.tokens) > self.max_positions:
            raise ValueError(f"{len(one.tokens)} tokens exceed the limit of {self.max_positions}")
        new = one.tokens[len(one.tokens) - self.num_missing(one) :]
        if new and (min(new) < 0 or max(new) >= self.vocab_size):
            raise ValueError(f"a token id is outside 0 .. {self.vocab_size - 1}")


def _engine(loaded: Loaded, cache_bytes: int, chunk_tokens: int) -> tuple[LogitsEngine, int, int]:
    """The first engine that passes the trial, the width of its logits, and the cache size in tokens."""
    model = loaded.model
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # transformers 5.0 chooses one that leaves the capping out
    own_attention = str(getattr(model.config, "_attn_implementation", "eager"))
    try:
        trial = Trial(model)
        shapes = layer_shapes(model)
    except TRIAL_ERRORS as error:
        raise TargetModelError(
            f"a trial run with a cache of keys and values failed ({error!r}): choose a model whose layers "
            "all use attention"
        ) from error
    max_tokens = cache_bytes // max(1, sum(shape.token_bytes for shape in shapes.values()))
    if max_tokens < MIN_CACHE_TOKENS:
        raise TargetModelError(
            f"cache_bytes {cache_bytes} holds only {max_tokens} tokens of this model: raise cache_mb"
        )
    max_tokens -= max_tokens % PAGE_SIZE
    if (packed := _packed_engine(model, trial, shapes, max_tokens, chunk_tokens)) is not None:
        return packed, trial.vocab_size, max_tokens
    model.set_attn_implementation(own_attention)
    serial = SerialEngine(model, trial.vocab_size, max_tokens, chunk_tokens)
    if (fault := trial.fault(serial)) is None:
        return serial, trial.vocab_size, max_tokens
    raise TargetModelError(f"the model cannot be rewound to an earlier token ({fault}): choose another model")


def _packed_engine(
    model: PreTrainedModel, trial: Trial, shapes: Mapping[int, LayerShape], max_tokens: int, chunk_tokens: int
) -> PackedEngine | None:
    """The engine for all sessions at once, with the first kernel that passes the trial; None if none does."""
    varlen_first = varlen.suits(model.device, model.dtype)
    kernels = (varlen.attend_varlen, attend_padded) if varlen_first else (attend_padded,)
    try:
        engine = PackedEngine(model, shapes, trial.vocab_size, max_tokens, chunk_tokens, kernels[0])
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TargetModelError("the cache does not fit into memory: lower cache_mb") from error
    for kernel in kernels:
        engine.kernel = kernel
        if (fault := trial.fault(engine)) is None:
            if kernel is varlen.attend_varlen and _is_on_one_device(model, shapes):
                engine.use_graphs()
            return engine
        _log.warning("%s cannot be used for this model: %s", kernel.__name__, fault)
    _log.warning("sessions are verified one after the other, not batched")
    return None


def _is_on_one_device(model: PreTrainedModel, shapes: Mapping[int, LayerShape]) -> bool:
    """Whether one process runs the model on one GPU, as recording its passes requires."""
    is_split = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not is_split and {shape.device for shape in shapes.values()} == {model.device}
