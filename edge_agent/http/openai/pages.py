"""OpenAI's API: models, chat completions and completions."""

from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from edge_agent.errors import GrammarError
from edge_agent.http.answers.replies import AnswerResponse, json_response
from edge_agent.http.api_errors import unusable
from edge_agent.http.openai.form import OpenAiForm
from edge_agent.http.openai.request import chat, completion
from edge_agent.http.requests.asked import Asked
from edge_agent.http.requests.fields import parse_object
from edge_agent.http.requests.names import choose
from edge_agent.http.site import Site
from edge_agent.json_fields import Json
from edge_agent.policy.schemes import SCHEMES
from edge_agent.service.service import Service

Parse = Callable[[Json, str], Asked]


def routes(site: Site) -> list[BaseRoute]:
    """With and without /v1, as some clients have it in the address and some in the path."""
    ends: list[BaseRoute] = []
    for base in ("/v1", ""):
        ends += [
            Route(f"{base}/models", partial(_models, site)),
            Route(f"{base}/models/{{name:path}}", partial(_model, site)),
            Route(f"{base}/chat/completions", partial(_complete, site, chat), methods=["POST"]),
            Route(f"{base}/completions", partial(_complete, site, completion), methods=["POST"]),
        ]
    return ends


async def _models(site: Site, _request: Request) -> Response:
    service = site.ready()
    return json_response({"object": "list", "data": [_described(service, service.config.served_name)]})


async def _model(site: Site, request: Request) -> Response:
    service = site.ready()
    return json_response(
        _described(service, choose(request.path_params["name"], service.config.served_name).name)
    )


async def _complete(site: Site, parse: Parse, request: Request) -> Response:
    service = site.ready()
    asked = parse(
        parse_object(await site.bodies.read(request.scope, request.receive)), service.config.served_name
    )
    try:
        await service.prepare(way="http", **asked.options)
    except GrammarError as error:
        raise unusable(error, asked.format_field) from error
    answer = service.ask(asked.prompt, way="http", **asked.options)
    form = OpenAiForm(asked, answer, is_chat=parse is chat)
    return AnswerResponse(service, answer, form, streams=asked.streams)


def _described(service: Service, name: str) -> dict[str, Any]:
    agent, config = service.agent, service.config
    return {
        "id": name,
        "object": "model",
        "created": int(service.began_at),
        "owned_by": "hybrid-lm",
        "hybrid_lm": {
            "draft": config.model,
            "pool": config.pool,
            "scheme": config.chosen_scheme.name,
            "schemes": list(SCHEMES),
            "summaries": {one.name: one.summary for one in SCHEMES.values()},
            "vocab_size": agent.text.vocab_size,
            "n_ctx": agent.max_positions,
        },
    }
