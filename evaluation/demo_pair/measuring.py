"""Measures the models on held-out commands: exact match of the actions, and how far draft and target agree.

Law: everything is measured on the files as shipped, after they were written and loaded again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import DynamicCache, LlamaForCausalLM

from common.transformers_cache import cache_argument
from evaluation.demo_pair.tokenizer import END_TOKEN, PADDING_TOKEN
from evaluation.smart_home import Command, exact_match, prompt_text, reply_text

BATCH_ROWS = 64
MAX_NEW_TOKENS = 224


@torch.inference_mode()
def replies(
    model: LlamaForCausalLM, tokenizer: Tokenizer, commands: Sequence[Command], temperature: float, seed: int
) -> list[str]:
    """Return the model's reply to each command; greedy at temperature 0."""
    generator = torch.Generator().manual_seed(seed)
    found: list[str] = []
    for start in range(0, len(commands), BATCH_ROWS):
        rows = [tokenizer.encode(prompt_text(each.text)).ids for each in commands[start : start + BATCH_ROWS]]
        found += _reply_batch(model, tokenizer, rows, temperature, generator)
    return found


def _reply_batch(
    model: LlamaForCausalLM,
    tokenizer: Tokenizer,
    rows: list[list[int]],
    temperature: float,
    generator: torch.Generator,
) -> list[str]:
    tokens, mask = _left_padded(rows)
    cache = {cache_argument(model.forward): DynamicCache()}
    written = torch.zeros(len(rows), 0, dtype=torch.long)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    for _ in range(MAX_NEW_TOKENS):
        output = model(input_ids=tokens, attention_mask=mask, position_ids=positions, **cache)
        tokens = _next_tokens(output.logits[:, -1], temperature, generator)
        written = torch.cat((written, tokens), 1)
        if bool((written == END_TOKEN).any(1).all()):
            break
        mask = torch.cat((mask, torch.ones_like(tokens)), 1)
        positions = positions[:, -1:] + 1
    return [tokenizer.decode(_until_end(row.tolist())) for row in written]


def _left_padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Return tokens and mask, each [rows, longest]."""
    length = max(map(len, rows))
    tokens = torch.tensor([[PADDING_TOKEN] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    return tokens, mask


def _next_tokens(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Draw tokens [rows, 1] from logits [rows, vocabulary]."""
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    return torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)


def _until_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(END_TOKEN)] if END_TOKEN in tokens else tokens


def share_right(found: Sequence[str], commands: Sequence[Command]) -> float:
    """Return the share of replies with exactly the right actions."""
    return sum(exact_match(text, each.actions) for text, each in zip(found, commands, strict=True)) / len(
        commands
    )


@dataclass(frozen=True)
class Agreement:
    """Draft against target along the right replies, as means over their tokens.

    `same_best`: the share of tokens where both models rank the same token first. `overlap`:
    sum(min(draft_probs, target_probs)), the probability that a sampled draft token is accepted. The
    entropies, in nats, are the draft model's, where its first choice is wrong and where it is right.
    """

    same_best: float
    overlap: float
    entropy_where_wrong: float
    entropy_where_right: float


def agreement(
    draft: LlamaForCausalLM, target: LlamaForCausalLM, tokenizer: Tokenizer, commands: Sequence[Command]
) -> Agreement:
    """Compare both models along the right replies, token by token."""
    draft_probs, target_probs, tokens = _along_replies(draft, target, tokenizer, commands)
    best = draft_probs.argmax(-1)
    entropy = -torch.special.xlogy(draft_probs, draft_probs).sum(-1)
    return Agreement(
        same_best=float((best == target_probs.argmax(-1)).double().mean()),
        overlap=float(torch.minimum(draft_probs, target_probs).sum(-1).mean()),
        entropy_where_wrong=float(entropy[best != tokens].mean()),
        entropy_where_right=float(entropy[best == tokens].mean()),
    )


@torch.inference_mode()
def _along_replies(
    draft: LlamaForCausalLM, target: LlamaForCausalLM, tokenizer: Tokenizer, commands: Sequence[Command]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return draft_probs and target_probs [tokens, vocabulary], and the right tokens [tokens]."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for each in commands:
        prompt, reply = tokenizer.encode(prompt_text(each.text)).ids, tokenizer.encode(reply_text(each)).ids
        tokens, given = torch.tensor([prompt + reply]), slice(len(prompt) - 1, -1)
        draft_probs = draft(input_ids=tokens).logits[0, given].softmax(-1)
        target_probs = target(input_ids=tokens).logits[0, given].softmax(-1)
        found.append((draft_probs, target_probs, torch.tensor(reply)))
    first, second, third = zip(*found, strict=True)
    return torch.cat(first), torch.cat(second), torch.cat(third)
