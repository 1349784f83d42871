"""The fields that set options of an answer, alike in every API."""

from common.sampling.randomness import MAX_SEED
from edge_agent.errors import ConfigError
from edge_agent.http.api_errors import invalid, of_error
from edge_agent.http.requests.fields import Fields
from edge_agent.http.requests.names import Chosen
from edge_agent.options import Options
from edge_agent.tools.tool import tool_use

MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
LEAST_TOP_P = 1e-6

_OWN = ("scheme", "risk", "threshold", "on_cloud_loss", "tentative")


def own_options(fields: Fields, chosen: Chosen) -> Options:
    """What only this system has, under `hybrid_lm`; `chosen` may bring a scheme."""
    own = fields.inner("hybrid_lm")
    if unknown := own.names() - set(_OWN):
        name = sorted(unknown)[0][:40]
        raise invalid(f"`hybrid_lm` has no {name!r}: it has {', '.join(_OWN)}", f"hybrid_lm.{name}")
    scheme = own.text("scheme", most=40)
    if scheme is not None and chosen.scheme not in (None, scheme):
        raise invalid("`model` and `hybrid_lm.scheme` name different schemes: leave one out", "model")
    return {
        "scheme": scheme or chosen.scheme,
        "risk": own.number("risk"),
        "threshold": own.number("threshold"),
        "on_cloud_loss": own.text("on_cloud_loss", most=40),
    }


def tools_of(fields: Fields) -> Options:
    """The tools that an answer may call, and whether it must; ApiError for those that cannot be used."""
    tools = fields.objects("tools")
    choice, parallel = (fields.found.get(name) for name in ("tool_choice", "parallel_tool_calls"))
    try:
        tool_use(tools, choice, parallel)
    except ConfigError as error:
        raise of_error(error) from error
    return {"tools": tools, "tool_choice": choice, "parallel_tool_calls": parallel}


def sampling_of(fields: Fields) -> Options:
    """The fields that clients of every API have for sampling and the end of the answer."""
    options: Options = {
        "temperature": fields.number("temperature"),
        "top_p": _top_p(fields.number("top_p")),
        "top_k": _off(fields.whole("top_k")),
        "min_p": fields.number("min_p"),
        "presence_penalty": fields.number("presence_penalty"),
        "frequency_penalty": fields.number("frequency_penalty"),
        "seed": _seed(fields),
        "stop": _stops(fields),
    }
    return options


def _stops(fields: Fields) -> list[str] | None:
    found = fields.texts("stop", most=MAX_STOPS, most_characters=MAX_STOP_CHARACTERS)
    return None if found is None else [one for one in found if one]


def _top_p(value: float | None) -> float | None:
    return LEAST_TOP_P if value == 0 else value


def _off(top_k: int | None) -> int | None:
    return 0 if top_k == -1 else top_k


def _seed(fields: Fields) -> int | None:
    """-1, as in llama.cpp, is a random one."""
    seed = fields.whole("seed")
    if seed is None or seed == -1:
        return None
    if not 0 <= seed <= MAX_SEED:
        raise fields.wrong("seed", f"a whole number from 0 to {MAX_SEED}")
    return seed
