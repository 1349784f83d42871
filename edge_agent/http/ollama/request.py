"""The body of a request to Ollama's API, as an ask.

Law: as for OpenAI's API. An empty prompt only asks whether the model is there: `None`.
"""

from edge_agent.config import MAX_TOKENS
from edge_agent.formats import FORMATS, grammar_of
from edge_agent.http.api_errors import invalid
from edge_agent.http.requests.asked import Asked
from edge_agent.http.requests.fields import Fields
from edge_agent.http.requests.messages import messages_of
from edge_agent.http.requests.names import choose
from edge_agent.http.requests.options import own_options, sampling_of, tools_of
from edge_agent.json_fields import Json
from edge_agent.options import Options
from edge_agent.text.prompts import Message


def model_of(body: Json, served: str) -> str:
    """The name of the model, in one of its two fields; ApiError for one that is not here."""
    fields = Fields(body)
    return choose(fields.text("model", most=200) or fields.text("name", most=200), served).name


def chat(body: Json, served: str) -> Asked | None:
    """`POST /api/chat`."""
    fields = Fields(body)
    name = model_of(body, served)
    if not body.get("messages"):
        return None
    asked = _asked(fields, messages_of(fields, may_lack_content=True), name, served)
    asked.options.update(tools_of(fields))
    return asked


def generate(body: Json, served: str) -> Asked | None:
    """`POST /api/generate`."""
    fields = Fields(body)
    name = model_of(body, served)
    for unsupported in ("images", "suffix", "template"):
        if body.get(unsupported):
            raise invalid(f"`{unsupported}` is not supported: leave it out", unsupported)
    prompt = fields.text("prompt")
    if not prompt:
        return None
    if fields.flag("raw"):
        asked = _asked(fields, prompt, name, served)
        asked.options["raw"] = True
        return asked
    messages: list[Message] = [{"role": "user", "content": prompt}]
    system = fields.text("system")
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return _asked(fields, messages, name, served)


def _asked(fields: Fields, prompt: str | list[Message], name: str, served: str) -> Asked:
    given = fields.inner("options")
    options: Options = sampling_of(given)
    options["repetition_penalty"] = given.number("repeat_penalty")
    num_predict = given.whole("num_predict")
    if num_predict is not None:  # below 1: as many as there may be
        options["max_tokens"] = MAX_TOKENS if num_predict < 1 else min(num_predict, MAX_TOKENS)
    options["grammar"] = grammar_of(fields, FORMATS)
    streams = fields.found.get("stream") is None or fields.flag("stream")
    own = own_options(fields, choose(name, served))
    return Asked(prompt, name, {**options, **own}, streams=streams)
