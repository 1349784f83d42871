"""What the metadata of a GGUF file says of its model, in the terms of this project.

Law: a model from a GGUF file has the vocabulary of the model that the file was made from. So the tokens that
fill the vocabulary up to the width of the logits ("[PAD151665]") are left out: no tokenizer makes them.
"""

import re
from collections import Counter
from collections.abc import Mapping
from math import prod

from common.gguf.header import AGAIN, GgufError, Header
from common.gguf.layout import WEIGHT_TYPES

CONTROL, USER_DEFINED, UNUSED = 3, 4, 5  # types of tokens
BYTE_LEVEL, SENTENCEPIECE = "gpt2", "llama"
TOKENIZERS = (BYTE_LEVEL, SENTENCEPIECE)

# Where a model stops, as in llama.cpp: the ids that the file names, and control tokens with these names.
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
_END_NAMES = frozenset(
    {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>"}
)
_PADDING = re.compile(r"\[PAD-?\d+\]")
_ARCHITECTURE_NAME = re.compile(r"[\w.-]{1,64}")


def check_model(header: Header) -> None:
    """Raise GgufError unless the file holds a whole language model that can be asked for its tokens."""
    path, metadata = header.path, header.metadata
    parts = metadata.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        raise GgufError(
            f"{path} is one of {parts} parts of a model: join them with `llama-gguf-split --merge` first"
        )
    kind = metadata.get("general.type", "model")
    if kind != "model":
        raise GgufError(f"{path} holds no language model but {str(kind)[:40]!r}: choose the model's own file")
    name = architecture(header)
    num_layers = metadata.get(f"{name}.block_count")
    if isinstance(num_layers, int) and num_layers > len(header.tensors):
        raise GgufError(f"{path} is damaged (it claims {num_layers} layers): {AGAIN}")
    if not header.tensors:
        raise GgufError(f"{path} has no weights, only a vocabulary: choose the model's own file")
    tokenizer = metadata.get("tokenizer.ggml.model")
    if tokenizer not in TOKENIZERS:
        raise GgufError(
            f"{path} has the tokenizer {str(tokenizer)[:40]!r}, which cannot be used: choose a model with "
            "one of the kind gpt2 or llama"
        )
    tokens, width = _tokens(header), header.tensors.get("token_embd.weight")
    if not tokens or (width is not None and len(tokens) > width.shape[0]):
        raise GgufError(f"{path} is damaged (it has {len(tokens)} tokens): {AGAIN}")


def architecture(header: Header) -> str:
    """The model's architecture in llama.cpp's terms."""
    found = header.metadata.get("general.architecture")
    if not isinstance(found, str) or not _ARCHITECTURE_NAME.fullmatch(found):
        raise GgufError(f"{header.path} does not name the architecture of its model: {AGAIN}")
    return found


def num_weights(header: Header) -> int:
    """How many weights all tensors have."""
    return sum(prod(tensor.shape) for tensor in header.tensors.values())


def quantisation(header: Header) -> str:
    """The number format of most weights."""
    counts: Counter[int] = Counter()
    for tensor in header.tensors.values():
        counts[tensor.weight_type] += prod(tensor.shape)
    return WEIGHT_TYPES[counts.most_common(1)[0][0]].name


def vocabulary(header: Header) -> Mapping[str, int]:
    """Token -> id, without the tokens that only fill it up."""
    types = _token_types(header)
    return {
        _spelt(header, token): token_id
        for token_id, token in enumerate(_tokens(header))
        if not (types.get(token_id) == UNUSED and _PADDING.fullmatch(token))
    }


def tokens_of_type(header: Header, token_type: int) -> list[tuple[int, str]]:
    """(id, token) of one type, ascending."""
    types = _token_types(header)
    return [
        (token_id, _spelt(header, token))
        for token_id, token in enumerate(_tokens(header))
        if types.get(token_id) == token_type
    ]


def end_ids(header: Header) -> frozenset[int]:
    """The tokens at which the model stops."""
    named = [special_id(header, key) for key in _END_KEYS]
    known = [token_id for token_id, token in tokens_of_type(header, CONTROL) if token in _END_NAMES]
    return frozenset(one for one in (*named, *known) if one is not None)


def special_id(header: Header, key: str) -> int | None:
    """The id that the metadata names, for example for bos_token_id; None if there is none."""
    found = header.metadata.get(f"tokenizer.ggml.{key}")
    if isinstance(found, int) and 0 <= found < len(_tokens(header)):
        return found
    return None


def puts_bos_first(header: Header) -> bool:
    """Whether a plain prompt begins with the first token; if the file does not say, as in llama.cpp."""
    found = header.metadata.get("tokenizer.ggml.add_bos_token")
    return found if isinstance(found, bool) else header.metadata.get("tokenizer.ggml.model") == SENTENCEPIECE


def text_of(header: Header, key: str) -> str | None:
    """A value of the metadata that is a text."""
    found = header.metadata.get(key)
    return found if isinstance(found, str) else None


def generation_settings(header: Header) -> dict[str, float | int | bool]:
    """The sampling that the file recommends, in the terms of generation_config.json; empty if it does not."""
    names = {
        "temp": "temperature",
        "top_k": "top_k",
        "top_p": "top_p",
        "min_p": "min_p",
        "penalty_repeat": "repetition_penalty",
    }
    found: dict[str, float | int | bool] = {}
    for name, ours in names.items():
        value = header.metadata.get(f"general.sampling.{name}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[ours] = round(value, 6) if isinstance(value, float) else value  # 0.8 is stored as float32
    return {"do_sample": True, **found} if found else {}


def _tokens(header: Header) -> list[str]:
    found = header.metadata.get("tokenizer.ggml.tokens")
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _token_types(header: Header) -> Mapping[int, object]:
    found = header.metadata.get("tokenizer.ggml.token_type")
    return dict(enumerate(found)) if isinstance(found, list) else {}


def _spelt(header: Header, token: str) -> str:
    """As the original spells it: llama.cpp writes SentencePiece's tokens of several blanks as blanks."""
    if header.metadata.get("tokenizer.ggml.model") == SENTENCEPIECE and token and not token.strip(" "):
        return "\u2581" * len(token)
    return token
