"""Trains one model on the stream of batches; stops and goes on at chunk boundaries.

Law: the checkpoint holds all that the next step depends on (weights, optimizer, step, chunk), so a training
that was interrupted ends with the same number of the same steps.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
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
    """How far a training has come."""

    step: int = 0
    chunk: int = 0
    seconds: float = 0.0


def learning_rate(step: int, shape: Shape) -> float:
    """Warm-up, then the peak, then a straight line down to 0 over the last `DECAY_SHARE` of the steps."""
    left = (shape.steps - step) / (shape.steps * DECAY_SHARE)
    return shape.peak_rate * min(1.0, (step + 1) / WARM_UP, left)


def reply_loss(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Mean cross entropy over the tokens of the replies, in nats; scalar."""
    hidden = model.model(input_ids=batch.tokens).last_hidden_state
    learned = batch.labels != IGNORED
    logits = model.lm_head(hidden[learned])
    return functional.cross_entropy(logits.float(), batch.labels[learned])


def train(
    model: LlamaForCausalLM,
    shape: Shape,
    tokenizer: Tokenizer,
    seed: int,
    checkpoint: Path,
    report: Callable[[str], None],
) -> Progress:
    """Trains up to `shape.steps`, from the checkpoint if there is one."""
    optimizers = _optimizers(model, shape.peak_rate)
    progress = _restore(model, optimizers, checkpoint)
    model.train()
    while progress.step < shape.steps:
        for batch in chunk_batches(tokenizer, seed, progress.chunk, shape.batch_tokens)[
            : shape.steps - progress.step
        ]:
            started = time.monotonic()
            loss = _step(model, optimizers, batch, learning_rate(progress.step, shape))
            progress.step += 1
            progress.seconds += time.monotonic() - started
            if progress.step % REPORT_EVERY == 0:
                report(_line(progress, shape, loss, batch))
        progress.chunk += 1
        _save(model, optimizers, progress, checkpoint)
    return progress


def _optimizers(model: LlamaForCausalLM, rate: float) -> Optimizers:
    """Muon for the matrices inside of the layers, AdamW for the embedding and the gains."""
    matrices = [each for each in model.model.layers.parameters() if each.ndim == 2]
    inside = {id(each) for each in matrices}
    others = [each for each in model.parameters() if id(each) not in inside]
    return (
        Muon(matrices, lr=rate, weight_decay=0.05, ns_steps=4, adjust_lr_fn="match_rms_adamw"),
        AdamW(others, lr=rate, betas=(0.9, 0.97), weight_decay=0.0, fused=True),
    )


def _step(model: LlamaForCausalLM, optimizers: Optimizers, batch: Batch, rate: float) -> float:
    with torch.autocast("cpu", torch.bfloat16):
        loss = reply_loss(model, batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def _line(progress: Progress, shape: Shape, loss: float, batch: Batch) -> str:
    a_step = progress.seconds / progress.step
    left = (shape.steps - progress.step) * a_step / 60
    speed = shape.batch_tokens / a_step
    return (
        f"step {progress.step}/{shape.steps}  loss {loss:.4f}  rows {len(batch.tokens)}"
        f"  {speed:.0f} tokens/s  {left:.1f} min left"
    )


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
