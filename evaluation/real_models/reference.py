"""The target model's own greedy text, by transformers' own `generate`: nothing of this project takes part."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from cloud_worker.target_model.loading import DTYPES, choose_device


def greedy_texts(
    target: str,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    eos_ids: frozenset[int],
    *,
    dtype: str,
    batch: int,
    num_threads: int,
    progress: Callable[[int], object],
) -> list[list[int]]:
    """Return the tokens after each prompt, up to the end token and with it; `batch` prompts at a time.

    Like a worker, it uses a CUDA GPU where there is one.
    """
    torch.set_num_threads(num_threads)
    device = choose_device("auto")
    loaded: Any = AutoModelForCausalLM.from_pretrained(target, dtype=DTYPES[dtype])
    model = loaded.eval().to(device)
    stops, found = sorted(eos_ids), list[list[int]]()
    for first in range(0, len(prompts), batch):
        some = prompts[first : first + batch]
        width = max(map(len, some))
        padded = torch.tensor([[stops[0]] * (width - len(one)) + list(one) for one in some], device=device)
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in some], device=device)
        made: Any = model.generate(
            padded,
            attention_mask=mask,
            max_new_tokens=max_tokens,
            do_sample=False,
            repetition_penalty=1.0,
            temperature=None,
            top_k=None,
            top_p=None,
            eos_token_id=stops,
            pad_token_id=stops[0],
        )
        found += [up_to_end(row[width:].tolist(), eos_ids) for row in made]
        progress(len(some))
    return found


def up_to_end(tokens: Sequence[int], eos_ids: frozenset[int]) -> list[int]:
    """Return the tokens up to the first end token, with it."""
    end = next((number for number, token in enumerate(tokens, 1) if token in eos_ids), len(tokens))
    return list(tokens[:end])
