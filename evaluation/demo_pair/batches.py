"""Training batches: an endless stream of new commands, a chunk at a time.

Law: a chunk is a function of its seed and number, so training can stop after any chunk and resume as if it
had not. Only the reply is learned: the labels of the prompt and of the padding are IGNORED.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor

from evaluation.smart_home import prompt_text, reply_text, training_command

IGNORED = -100
CHUNK_COMMANDS = 4000


@dataclass(frozen=True)
class Batch:
    """`tokens` and `labels` [rows, length]; labels[r, t] is the token after tokens[r, t], or IGNORED."""

    tokens: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Sample:
    """The tokens of one text: the first `num_prompt` are given, the rest is learned."""

    tokens: list[int]
    num_prompt: int


def chunk_samples(tokenizer: Tokenizer, seed: int, chunk: int) -> list[Sample]:
    """Return the encoded commands of one chunk."""
    rng = Random(f"training {seed} {chunk}")
    commands = [training_command(rng) for _ in range(CHUNK_COMMANDS)]
    prompts = tokenizer.encode_batch([prompt_text(command.text) for command in commands])
    replies = tokenizer.encode_batch([reply_text(command) for command in commands])
    return [
        Sample(prompt.ids + reply.ids, len(prompt.ids))
        for prompt, reply in zip(prompts, replies, strict=True)
    ]


def chunk_batches(tokenizer: Tokenizer, seed: int, chunk: int, batch_tokens: int) -> list[Batch]:
    """Split the chunk into batches of samples of similar length, in random order.

    A batch has at most `batch_tokens` tokens, padding included.
    """
    samples = sorted(chunk_samples(tokenizer, seed, chunk), key=lambda sample: len(sample.tokens))
    batches = [_padded(rows) for rows in _groups(samples, batch_tokens)]
    Random(f"order {seed} {chunk}").shuffle(batches)
    return batches


def _groups(samples: list[Sample], batch_tokens: int) -> Iterator[list[Sample]]:
    rows: list[Sample] = []
    for sample in samples:
        if rows and (len(rows) + 1) * len(sample.tokens) > batch_tokens:
            yield rows
            rows = []
        rows.append(sample)
    yield rows


def _padded(rows: list[Sample]) -> Batch:
    length = max(len(row.tokens) for row in rows)
    tokens = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full((len(rows), length), IGNORED)
    for number, row in enumerate(rows):
        tokens[number, : len(row.tokens)] = torch.tensor(row.tokens)
        labels[number, row.num_prompt - 1 : len(row.tokens) - 1] = torch.tensor(row.tokens[row.num_prompt :])
    return Batch(tokens[:, :-1], labels[:, :-1])
