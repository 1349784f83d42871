"""Questions as requests of vLLM's /v1/completions, and its answers as replies. Pure.

Law: nothing is left to the server's defaults, so that its `--generation-config` and `--override-generation-
config` change no distribution. An answer that is not as expected is an error, never guessed at.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cloud_worker.vllm_target.questions import Question, Reply

MAX_IDS_AT_ONCE = 128  # of logprob_token_ids, by vLLM
LOWERED = -100.0  # the least logit_bias that vLLM takes
NO_MASS = -9000.0  # vLLM writes -9999 for the logarithm of 0
_TOKEN = "token_id:"


class AnswerError(Exception):
    """The server's answer is not what this engine can use; one line."""


def request(model: str, tokens: Sequence[int], question: Question, ids: Sequence[int]) -> dict[str, Any]:
    """The body of a request about `tokens`, the beginning of a sequence, for the probabilities of `ids`."""
    sampling = question.sampling
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(tokens),
        "max_tokens": 1,
        "ignore_eos": True,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    if not sampling.greedy:
        body["seed"] = question.seed
    if question.num_samples > 1:
        body["n"] = question.num_samples
    if question.avoided:
        body["logit_bias"] = {str(id_): LOWERED for id_ in question.avoided}
    if ids:
        body |= {"logprobs": 0, "logprob_token_ids": list(ids)}
    return body


def reply(answer: object, num_samples: int, ids: Sequence[int]) -> Reply:
    """What the answer to `request` says; AnswerError."""
    try:
        choices = cast("Sequence[Mapping[str, Any]]", cast("Mapping[str, Any]", answer)["choices"])
        ordered = sorted(choices, key=lambda choice: int(choice["index"]))
        samples = tuple(int(choice["token_ids"][0]) for choice in ordered)
        probs = _probs(ordered[0], ids) if ids else ()
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise AnswerError(f"the server's answer has not the expected form ({error!r})") from error
    if len(samples) != num_samples:
        raise AnswerError(f"the server gave {len(samples)} samples instead of {num_samples}")
    return Reply(samples, probs)


def _probs(choice: Mapping[str, Any], ids: Sequence[int]) -> tuple[float, ...]:
    logs: Mapping[str, float] = choice["logprobs"]["top_logprobs"][0]
    found = np.array([float(logs[f"{_TOKEN}{id_}"]) for id_ in ids])
    if np.isnan(found).any():
        raise ValueError("a probability is not a number")
    with np.errstate(under="ignore"):
        return tuple(np.where(found > NO_MASS, np.exp(np.minimum(found, 0.0)), 0.0).tolist())
