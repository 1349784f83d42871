"""The same step by onnxruntime-genai and by llama.cpp, where their packages are installed."""

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.sampling.distribution import Sampling

ROOM = 64  # positions after the prompt


def genai_step(
    folder: Path, num_threads: int, prompt: Sequence[int], sampling: Sampling
) -> Callable[[], None]:
    """Return a step of its generator: run the graph in `folder` on the last token, and choose the next."""
    og: Any = import_module("onnxruntime_genai")
    config = og.Config(str(folder))
    options = {"session_options": {"intra_op_num_threads": num_threads}}
    config.overlay(json.dumps({"model": {"decoder": options}}))
    model = og.Model(config)
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(prompt) + ROOM, **_genai_search(sampling))
    generator = og.Generator(model, params)
    generator.append_tokens(list(prompt))

    def step() -> None:
        generator.generate_next_token()
        generator.get_next_tokens()

    step()
    return step


def llama_step(path: Path, num_threads: int, prompt: Sequence[int], sampling: Sampling) -> Callable[[], None]:
    """Return a step of llama.cpp: choose a token from the logits, and run the model on it."""
    llama_cpp: Any = import_module("llama_cpp")
    model = llama_cpp.Llama(
        str(path),
        n_ctx=len(prompt) + ROOM,
        n_threads=num_threads,
        n_threads_batch=num_threads,
        verbose=False,
    )
    model.eval(list(prompt))
    choice = {"temp": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p, "min_p": 0.0}

    def step() -> None:
        model.eval([model.sample(**choice)])

    step()
    return step


def missing(package: str) -> bool:
    """Return whether a package is not installed."""
    return find_spec(package) is None


def _genai_search(sampling: Sampling) -> dict[str, object]:
    if sampling.greedy:
        return {"do_sample": False}
    return {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
    }
