"""Other engines that answer the same prompts greedily: transformers and llama.cpp, also with a draft."""

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from cloud_worker.target_model.loading import DTYPES

Encode = Callable[[str], Sequence[int]]
Answer = Callable[[str], int]
ASSISTED = "transformers, assisted"
LLAMA, LLAMA_DRAFT = "llama.cpp", "llama.cpp with a draft"


def assisted(
    target: str, draft: str, dtype: str, encode: Encode, max_tokens: int, num_threads: int
) -> Answer:
    """Return `generate` of the target with the draft model's original as its assistant."""
    torch.set_num_threads(num_threads)
    model: Any = AutoModelForCausalLM.from_pretrained(target, dtype=DTYPES[dtype]).eval()
    assistant: Any = AutoModelForCausalLM.from_pretrained(draft, dtype=DTYPES[dtype]).eval()

    def answer(prompt: str) -> int:
        tokens = list(encode(prompt))
        made: Any = model.generate(
            torch.tensor([tokens]),
            attention_mask=torch.ones((1, len(tokens)), dtype=torch.long),
            max_new_tokens=max_tokens,
            do_sample=False,
            repetition_penalty=1.0,
            temperature=None,
            top_k=None,
            top_p=None,
            assistant_model=assistant,
        )
        return int(made.shape[1]) - len(tokens)

    return answer


def llama_answers(
    target: Path, draft: Path | None, encode: Encode, max_tokens: int, num_threads: int
) -> dict[str, Answer]:
    """Return llama.cpp's server on GGUF files, without and with a draft model; none without its package."""
    if find_spec("xllamacpp") is None:
        return {}
    found = {LLAMA: _llama(target, None, encode, max_tokens, num_threads)}
    if draft is not None:
        found[LLAMA_DRAFT] = _llama(target, draft, encode, max_tokens, num_threads)
    return found


def _llama(target: Path, draft: Path | None, encode: Encode, max_tokens: int, num_threads: int) -> Answer:
    engine: Any = import_module("xllamacpp")
    params = engine.CommonParams()
    params.model.path = str(target)
    params.n_ctx, params.n_parallel, params.verbosity = 2048, 1, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = num_threads
    if draft is not None:
        params.speculative.draft.mparams.path = str(draft)
        kinds = engine.common_speculative_type
        params.speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
    server = engine.Server(params)

    def answer(prompt: str) -> int:
        asked = {
            "prompt": list(encode(prompt)),
            "n_predict": max_tokens,
            "temperature": 0,
            "cache_prompt": False,
        }
        found = server.handle_completions(asked)
        values: Any = found if isinstance(found, dict) else json.loads(found)
        return int(values["usage"]["completion_tokens"])

    return answer
