"""A small random target model with a vocabulary as large as one likes, for what depends on a row's length."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM

MAX_POSITIONS = 2048


def save_wide_model(folder: Path, vocab_size: int) -> Path:
    """Write the model and its tokenizer to `folder`, which is returned; equal sizes give equal models."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_POSITIONS,
        eos_token_id=1,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    vocabulary = {f"token{number}": number for number in range(vocab_size)}
    Tokenizer(models.WordLevel(vocabulary, unk_token="token0")).save(str(folder / "tokenizer.json"))
    return folder
