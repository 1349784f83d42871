"""Trains one model on the stream of batches; stops and resumes at chunk boundaries.

Law: the checkpoint holds everything that the next step depends on (weights, optimizers, step, chunk), so an
interrupted training ends with the same number of the same steps.
"""

import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from torch.optim import AdamW, Muon
from transformers import LlamaForCausalLM

from evaluation.demo_pair.batches import IGNORED, Batch, chunk_batches
from evaluation.demo_pair.shapes import Shape

WARM_UP = 60
DECAY_SHARE = 0.35
REPORT_EVERY = 50

Optimizers = tuple[Muon, AdamW]


@dataclass
class Progress:
    """How far the training has come."""

    step: int = 0
    chunk: int = 0
    seconds: float = 0.0


def learning_rate(step: int, shape: Shape) -> float:
    """Return the rate: warm-up, then the peak, then linear decay to 0 over the last `DECAY_SHARE`."""
    left = (shape.steps - step) / (shape.steps * DECAY_SHARE)
    return shape.peak_rate * min(1.0, (step + 1) / WARM_UP, left)


def reply_loss(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Return the summed cross entropy of the replies' tokens, in nats; a scalar."""
    hidden = model.model(input_ids=batch.tokens).last_hidden_state
    learned = batch.labels != IGNORED
    logits = model.lm_head(hidden[learned])
    return functional.cross_entropy(logits.float(), batch.labels[learned], reduction="sum")


def train(
    model: LlamaForCausalLM,
    shape: Shape,
    tokenizer: Tokenizer,
    *,
    seed: int,
    num_threads: int,
    checkpoint: Path,
    report: Callable[[str], None],
) -> Progress:
    """Train up to `shape.steps`, from the checkpoint if there is one; the threads share each batch."""
    optimizers = _optimizers(model, shape.peak_rate)
    progress = _restore(model, optimizers, checkpoint)
    model.train()
    with ThreadPoolExecutor(num_threads, initializer=lambda: torch.set_num_threads(1)) as pool:
        while progress.step < shape.steps:
            batches = chunk_batches(tokenizer, seed, progress.chunk, shape.batch_tokens)
            for batch in batches[: shape.steps - progress.step]:
                started = time.monotonic()
                rate = learning_rate(progress.step, shape)
                loss = _step(model, optimizers, pool, _parts(batch, num_threads), rate)
                progress.step += 1
                progress.seconds += time.monotonic() - started
                if progress.step % REPORT_EVERY == 0:
                    report(_line(progress, shape, loss))
            progress.chunk += 1
            _save(model, optimizers, progress, checkpoint)
    return progress


def _optimizers(model: LlamaForCausalLM, rate: float) -> Optimizers:
    """Return Muon for the matrices inside the layers, and AdamW for the embedding and the gains."""
    matrices = [each for each in model.model.layers.parameters() if each.ndim == 2]
    inside = {id(each) for each in matrices}
    others = [each for each in model.parameters() if id(each) not in inside]
    return (
        Muon(matrices, lr=rate, weight_decay=0.05, ns_steps=4, adjust_lr_fn="match_rms_adamw"),
        AdamW(others, lr=rate, betas=(0.9, 0.97), weight_decay=0.0, fused=True),
    )


def _step(
    model: LlamaForCausalLM, optimizers: Optimizers, pool: Executor, parts: list[Batch], rate: float
) -> float:
    """Take one step on a batch whose parts run in parallel; return the mean loss over its replies."""
    num_learned = sum(int((part.labels != IGNORED).sum()) for part in parts)
    losses, gradients = zip(*pool.map(partial(_gradients, model), parts), strict=True)
    for parameter, *found in zip(model.parameters(), *gradients, strict=True):
        parameter.grad = torch.stack(found).sum(0) / num_learned
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return sum(losses) / num_learned


def _gradients(model: LlamaForCausalLM, part: Batch) -> tuple[float, tuple[Tensor, ...]]:
    with torch.autocast("cpu", torch.bfloat16):
        loss = reply_loss(model, part)
    return loss.item(), torch.autograd.grad(loss, list(model.parameters()))


def _parts(batch: Batch, num: int) -> list[Batch]:
    rows = zip(batch.tokens.tensor_split(num), batch.labels.tensor_split(num), strict=True)
    return [Batch(tokens, labels) for tokens, labels in rows if len(tokens)]


def _line(progress: Progress, shape: Shape, loss: float) -> str:
    per_step = progress.seconds / progress.step
    left = (shape.steps - progress.step) * per_step / 60
    speed = shape.batch_tokens / per_step
    return f"step {progress.step}/{shape.steps}  loss {loss:.4f}  {speed:.0f} tokens/s  {left:.1f} min left"


def _save(model: LlamaForCausalLM, optimizers: Optimizers, progress: Progress, checkpoint: Path) -> None:
    kept = [optimizer.state_dict() for optimizer in optimizers]
    state = {"model": model.state_dict(), "optimizers": kept, "progress": vars(progress)}
    unfinished = checkpoint.with_suffix(".unfinished")
    torch.save(state, unfinished)
    unfinished.replace(checkpoint)


def _restore(model: LlamaForCausalLM, optimizers: Optimizers, checkpoint: Path) -> Progress:
    if not checkpoint.exists():
        return Progress()
    state = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    return Progress(**state["progress"])
