"""The body of a request to OpenAI's API, as an ask.

Law: a field that would change the answer and cannot be honoured is refused; one that is unknown is ignored.
"""

from collections.abc import Callable
from typing import Any

from edge_agent.config import MAX_TOKENS
from edge_agent.http.api_errors import ApiError, invalid
from edge_agent.http.openai.formats import format_of
from edge_agent.http.requests.asked import Asked
from edge_agent.http.requests.fields import Fields
from edge_agent.http.requests.messages import messages_of
from edge_agent.http.requests.names import choose
from edge_agent.http.requests.options import own_options, sampling_of, tools_of
from edge_agent.json_fields import Json


def chat(body: Json, served: str) -> Asked:
    """`POST /v1/chat/completions`."""
    fields = Fields(body)
    _refuse(fields, _REFUSED)
    asked = _asked(fields, messages_of(fields), served)
    asked.options.update(tools_of(fields))
    return asked


def completion(body: Json, served: str) -> Asked:
    """`POST /v1/completions`: the prompt goes to the model as it is."""
    fields = Fields(body)
    _refuse(fields, _REFUSED | _REFUSED_OF_COMPLETIONS)
    prompt: Any = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:  # as some clients send it
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise fields.wrong("prompt", "one text")
    asked = _asked(fields, prompt, served)
    asked.options["raw"] = True
    return asked


def _asked(fields: Fields, prompt: Any, served: str) -> Asked:
    chosen = choose(fields.text("model", most=200), served)
    options = sampling_of(fields)
    options["repetition_penalty"] = _either(fields, "repetition_penalty", "repeat_penalty")
    options["max_tokens"] = _max_tokens(fields)
    variables = fields.inner("chat_template_kwargs").found
    if variables:
        options["template_vars"] = variables
    field, options["grammar"] = format_of(fields)
    return Asked(
        prompt,
        chosen.name,
        {**options, **own_options(fields, chosen)},
        streams=fields.flag("stream"),
        includes_usage=fields.inner("stream_options").flag("include_usage"),
        shows_tentative=fields.inner("hybrid_lm").flag("tentative"),
        format_field=field,
    )


def _max_tokens(fields: Fields) -> int | None:
    """At most what one answer can have; -1, as in llama.cpp, is that."""
    names = ("max_completion_tokens", "max_tokens")
    found = [(name, fields.whole(name)) for name in names]
    name, number = next(((name, one) for name, one in found if one is not None), ("", None))
    if number is None:
        return None
    if number == -1:
        return MAX_TOKENS
    if number < 1:
        raise invalid(f"`{name}` must be at least 1", name)
    return min(number, MAX_TOKENS)


def _either(fields: Fields, *names: str) -> float | None:
    return next((one for one in map(fields.number, names) if one is not None), None)


def _refuse(fields: Fields, refused: dict[str, Callable[[Any], bool]]) -> None:
    for name, is_harmless in refused.items():
        value = fields.found.get(name)
        if value is not None and not is_harmless(value):
            raise _unsupported(name)


def _unsupported(name: str) -> ApiError:
    advice = "use `response_format`, `grammar` or `regex`" if name in _OF_VLLM else "leave it out"
    return invalid(f"`{name}` is not supported: {advice}", name, "unsupported_parameter")


def _is_empty(value: Any) -> bool:
    return value in (False, 0, "", [], {})


_OF_VLLM = ("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar")
_REFUSED: dict[str, Callable[[Any], bool]] = {
    "n": lambda value: value == 1,
    "logit_bias": _is_empty,
    "logprobs": _is_empty,
    "top_logprobs": _is_empty,
    "audio": _is_empty,
    "modalities": lambda value: value == ["text"],
    "function_call": lambda value: value in ("auto", "none"),
    "prediction": _is_empty,
    **dict.fromkeys(_OF_VLLM, _is_empty),
}
_REFUSED_OF_COMPLETIONS: dict[str, Callable[[Any], bool]] = {
    "best_of": lambda value: value == 1,
    "echo": _is_empty,
    "suffix": _is_empty,
}
