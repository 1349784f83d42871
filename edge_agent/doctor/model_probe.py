"""Load the draft model, and measure a few steps of it.

Law: it takes at most about STEPS_SECONDS per number of threads, besides loading.
"""

import time
from dataclasses import replace
from statistics import median

import numpy as np

from edge_agent.config import AgentConfig
from edge_agent.device.machine import threads_here
from edge_agent.device.power import POWERS
from edge_agent.doctor.facts import Machine, Model
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.draft_model.files import ModelInfo, read_info
from edge_agent.draft_model.precision import precision_of
from edge_agent.draft_model.source import resolve
from edge_agent.errors import ModelError
from edge_agent.text.tokenizer import Text

STEPS_SECONDS = 1.5
MAX_STEPS = 48
_WARM_UP = 3
_PROMPT = "Measure how long one token takes on this device."


def examine_model(config: AgentConfig, machine: Machine) -> tuple[DraftModel | None, Model]:
    """The model, measured with the threads that an agent would give it, and with one for comparison.

    None where it cannot be used: `Model.problem` has the reason, if it is not that memory is too small.
    """
    known, memory = Model(config.model), machine.memory
    try:
        info = read_info(resolve(config.model, model_file=config.model_file), config.model_file)
        text = Text.load(info)
        known = replace(
            known,
            folder=str(info.folder),
            precision=precision_of(info.onnx_path),
            vocabulary=text.vocab_size,
            max_positions=info.max_positions,
            num_bytes=info.num_bytes,
        )
        if memory is not None and info.num_bytes > memory.available + memory.swap:
            return None, known
        most = POWERS[config.power].max_threads
        num_threads = threads_here(config.num_threads, info.num_bytes, most) or machine.load.num_usable
        known = replace(known, num_threads=num_threads)
        prompt = text.encode(_PROMPT)
        if num_threads > 1:
            known = _with_steps(known, _load(info, config, 1), prompt, 1)
        model = _load(info, config, num_threads)
        known = _with_steps(known, model, prompt, num_threads)
    except ModelError as error:
        return None, replace(known, problem=str(error))
    return model, replace(known, position_bytes=model.position_bytes)


def _load(info: ModelInfo, config: AgentConfig, num_threads: int) -> DraftModel:
    return DraftModel.load(
        info.folder, model_file=config.model_file, num_threads=num_threads, providers=config.providers
    )


def _with_steps(known: Model, model: DraftModel, prompt: list[int], num_threads: int) -> Model:
    """`known` with the step time of `model`, greedy, after a short prompt."""
    tokens, times, cpu = list(prompt), list[float](), list[float]()
    end = time.monotonic() + STEPS_SECONDS
    while len(times) < MAX_STEPS and len(tokens) < model.max_positions:
        began, began_cpu = time.monotonic(), time.process_time()
        logits = model.logits(tokens)
        times.append(time.monotonic() - began)
        cpu.append(time.process_time() - began_cpu)
        tokens.append(int(np.argmax(logits)))
        if time.monotonic() > end and len(times) > _WARM_UP:
            break
    steady, steady_cpu = times[_WARM_UP:] or times, cpu[_WARM_UP:] or cpu
    return replace(
        known,
        step_times={**known.step_times, num_threads: median(steady)},
        step_cpu={**known.step_cpu, num_threads: median(steady_cpu)},
    )
