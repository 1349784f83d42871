"""The shapes of the two models, and how long each is trained.

Law: both have the same vocabulary and special tokens; head sizes are multiples of 16, so that ONNX graphs
with fused grouped-query attention can be built from them.
"""

from dataclasses import dataclass

from transformers import LlamaConfig

from evaluation.demo_pair.tokenizer import END_TOKEN, PADDING_TOKEN

MAX_POSITIONS = 512


@dataclass(frozen=True)
class Shape:
    """One model: its sizes, and its training, with `batch_tokens` tokens per step."""

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    head_dim: int
    intermediate: int
    steps: int
    batch_tokens: int
    peak_rate: float


TARGET = Shape(160, 4, 5, 1, 32, 448, steps=4000, batch_tokens=3072, peak_rate=3e-3)
DRAFT = Shape(64, 2, 2, 1, 32, 192, steps=1600, batch_tokens=2048, peak_rate=4e-3)


def llama_config(shape: Shape, vocabulary: int) -> LlamaConfig:
    """Return the shape as a transformers config."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END_TOKEN,
        pad_token_id=PADDING_TOKEN,
    )
