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
    """Return a step of llama.cpp: choose a token from the logits, and run the model on it.

    By the library's own functions, because its Python class copies the logits of each step.
    """
    llama: Any = import_module("llama_cpp")
    model = llama.Llama(
        str(path),
        n_ctx=len(prompt) + ROOM,
        n_threads=num_threads,
        n_threads_batch=num_threads,
        verbose=False,
    )
    model.eval(list(prompt))
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    for sampler in _llama_samplers(llama, sampling):
        llama.llama_sampler_chain_add(chain, sampler)
    token = (llama.llama_token * 1)()

    def step() -> None:
        token[0] = llama.llama_sampler_sample(chain, model.ctx, -1)
        if llama.llama_decode(model.ctx, llama.llama_batch_get_one(token, 1)):
            raise RuntimeError("llama.cpp failed to run")

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


def _llama_samplers(llama: Any, sampling: Sampling) -> list[object]:
    if sampling.greedy:
        return [llama.llama_sampler_init_greedy()]
    chosen = [llama.llama_sampler_init_top_k(sampling.top_k)] if sampling.top_k else []
    if sampling.top_p < 1.0:
        chosen.append(llama.llama_sampler_init_top_p(sampling.top_p, 1))
    return [
        *chosen,
        llama.llama_sampler_init_temp(sampling.temperature),
        llama.llama_sampler_init_dist(1),
    ]
