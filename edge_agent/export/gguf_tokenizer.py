"""The tokenizer in a GGUF file as a tokenizer.json, the same as the original's.

Law: its vocabulary is `common.gguf.facts.vocabulary`, so that its fingerprint is the original's. A GGUF file
names the rule by which text is split before tokens are merged; where that name is not known here, text may be
split otherwise than in training, which `progress` gets a line about.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from common.gguf.facts import (
    BYTE_LEVEL,
    CONTROL,
    USER_DEFINED,
    puts_bos_first,
    special_id,
    tokens_of_type,
    vocabulary,
)
from common.gguf.header import AGAIN, GgufError, Header

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_ENGLISH_ENDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = rf"{_ENGLISH_ENDS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_REST}"
_LLAMA3 = rf"{_ENGLISH_ENDS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_REST}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_START = r"[^\r\n\p{L}\p{N}]?"
_TEKKEN_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = rf"{_START}{_UPPER}*{_LOWER}+|{_START}{_UPPER}+{_LOWER}*|\p{{N}}{_TEKKEN_REST}"
_GPT4O = (
    rf"{_START}{_UPPER}*{_LOWER}+{_ENGLISH_ENDS}?|{_START}{_UPPER}+{_LOWER}*{_ENGLISH_ENDS}?"
    rf"|\p{{N}}{{1,3}}{_TEKKEN_REST}"
)


@dataclass(frozen=True, slots=True)
class _Splitting:
    """How text is split: by the patterns one after the other; letters composed before, known words kept."""

    patterns: tuple[str, ...] = (_GPT2,)
    composes: bool = False
    takes_words: bool = False


_DIGITS = _Splitting((r"\p{N}", _GPT2))
# By the names of tokenizer.ggml.pre, as llama.cpp reads them.
_SPLITTINGS = {
    **dict.fromkeys(("gpt-2", "default", "phi-2", "jina-es", "jina-de", "olmo", "mpt"), _Splitting()),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"), _DIGITS),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez"), _Splitting((_QWEN2,), composes=True)),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3"), _Splitting((_LLAMA3,), takes_words=True)),
    **dict.fromkeys(("dbrx", "smaug-bpe"), _Splitting((_LLAMA3,))),
    "tekken": _Splitting((_TEKKEN,), takes_words=True),
    **dict.fromkeys(("gpt-4o", "llama4"), _Splitting((_GPT4O,))),
}


def write_tokenizer(header: Header, folder: Path, progress: Callable[[str], None]) -> None:
    """Write tokenizer.json to `folder`; GgufError if it cannot be made."""
    try:
        if header.metadata.get("tokenizer.ggml.model") == BYTE_LEVEL:
            tokenizer = _byte_level(header, progress)
        else:
            tokenizer = _sentencepiece(header)
    except GgufError:
        raise
    except Exception as error:  # tokenizers raises nothing more specific
        raise GgufError(f"{header.path} has no usable tokenizer ({error}): {AGAIN}") from error
    bos = special_id(header, "bos_token_id") if puts_bos_first(header) else None
    if bos is not None:
        token = str(tokenizer.id_to_token(bos))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{token} $A", special_tokens=[(token, bos)]
        )
    tokenizer.save(str(folder / "tokenizer.json"))


def _byte_level(header: Header, progress: Callable[[str], None]) -> Tokenizer:
    name = header.metadata.get("tokenizer.ggml.pre", "default")
    splitting = _SPLITTINGS.get(str(name))
    if splitting is None:
        splitting = _Splitting()
        progress(
            f"{header.path.name} splits text by the rule {str(name)[:40]!r}, which is not known here: "
            "prompts may be tokenised otherwise than in training."
        )
    merges = header.metadata.get("tokenizer.ggml.merges")
    if not isinstance(merges, list):
        raise GgufError(f"{header.path} has no merges for its tokenizer: {AGAIN}")
    pairs = [tuple(str(one).split(" ", 1)) for one in merges]
    tokenizer = Tokenizer(
        models.BPE(
            vocab=dict(vocabulary(header)),
            merges=cast("list[tuple[str, str]]", pairs),
            ignore_merges=splitting.takes_words,
        )
    )
    if splitting.composes:
        tokenizer.normalizer = normalizers.NFC()
    steps: list[Any] = [
        pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in splitting.patterns
    ]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, last])
    tokenizer.decoder = decoders.ByteLevel()
    _add_whole(header, tokenizer)
    return tokenizer


def _sentencepiece(header: Header) -> Tokenizer:
    """By transformers, which finds the merges by the tokens' scores."""
    from transformers import AutoTokenizer

    made: Any = AutoTokenizer.from_pretrained(header.path.parent, gguf_file=header.path.name)
    text = cast("dict[str, Any]", json.loads(made.backend_tokenizer.to_str()))
    kept = vocabulary(header)
    text["model"]["vocab"] = {
        token: number for token, number in text["model"]["vocab"].items() if kept.get(token) == number
    }
    text["added_tokens"] = [one for one in text["added_tokens"] if kept.get(one["content"]) == one["id"]]
    text["post_processor"] = None
    tokenizer = Tokenizer.from_str(json.dumps(text))
    _add_whole(header, tokenizer)
    return tokenizer


def _add_whole(header: Header, tokenizer: Tokenizer) -> None:
    """Tokens that are never split: special ones, and those that the model's makers defined."""
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for _, token in tokens_of_type(header, CONTROL)]
    )
    tokenizer.add_tokens(
        [AddedToken(token, normalized=False) for _, token in tokens_of_type(header, USER_DEFINED)]
    )
