"""Models with random weights and the shapes of known ones: as fast as these, and no download."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

SPREAD = 4.0  # of the logits, as a trained model's; random weights would give nearly equal ones
SHAPES: dict[str, dict[str, object]] = {
    "smollm2-135m": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "qwen-0.5b": {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    },
    "qwen-1.5b": {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    },
}


def random_model(
    shape: str, device: str = "cpu", dtype: torch.dtype = torch.float32, *, spread: float | None = None
) -> PreTrainedModel:
    """Return a model of a shape; `spread` scales its logits to this standard deviation."""
    torch.manual_seed(0)
    settings = dict(SHAPES[shape])
    config = AutoConfig.for_model(str(settings.pop("model_type")), **settings)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval().requires_grad_(False)
    if spread is not None:
        ids = torch.arange(1, 33, device=device)[None]
        logits = model(input_ids=ids, use_cache=False).logits.float()
        model.model.norm.weight.mul_(spread / float(logits.std()))
    return model
