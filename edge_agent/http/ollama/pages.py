"""Ollama's API, as far as its clients need it to talk to one model that is there already."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from edge_agent.errors import AgentError
from edge_agent.http.answers.replies import AnswerResponse, error_response, json_response
from edge_agent.http.api_errors import ApiError, of_error
from edge_agent.http.ollama.form import OllamaForm, timestamp
from edge_agent.http.ollama.request import chat, generate, model_of
from edge_agent.http.requests.asked import Asked
from edge_agent.http.requests.fields import parse_object
from edge_agent.http.site import Site
from edge_agent.json_fields import Json
from edge_agent.service.service import Service

VERSION = "0.12.0"  # of the API that is spoken: some clients look for a least one
RUNNING = "Ollama is running"
_FAR = "0001-01-01T00:00:00Z"  # it never expires

Parse = Callable[[Json, str], Asked | None]
Handler = Callable[[Site, Request], Any]


def routes(site: Site) -> list[BaseRoute]:
    """Those that read, those that ask, and those that change models, which is not possible here."""
    reading: dict[str, Handler] = {"version": _version, "tags": _tags, "ps": _ps}
    asking: dict[str, Handler] = {
        "show": _show,
        "chat": partial(_complete, chat),
        "generate": partial(_complete, generate),
        "pull": _pull,
    }
    refused = ("embed", "embeddings", "create", "copy", "push", "delete")
    return [
        *(Route(f"/api/{name}", partial(_guarded, one, site)) for name, one in reading.items()),
        *(_posted(name, partial(_guarded, one, site)) for name, one in asking.items()),
        *(_posted(name, partial(_guarded, _refuse, site), "DELETE") for name in refused),
    ]


def _posted(name: str, handler: Callable[[Request], Any], *methods: str) -> BaseRoute:
    return Route(f"/api/{name}", handler, methods=["POST", *methods])


async def _guarded(handler: Handler, site: Site, request: Request) -> Response:
    """Errors in this API's own form."""
    try:
        return await handler(site, request)
    except (ApiError, AgentError) as error:
        shown = of_error(error)
        return error_response(shown, {"error": shown.message})


async def _version(_site: Site, _request: Request) -> Response:
    return json_response({"version": VERSION})


async def _tags(site: Site, _request: Request) -> Response:
    return json_response({"models": [_described(site.ready())]})


async def _ps(site: Site, _request: Request) -> Response:
    service = site.ready()
    loaded = {"expires_at": _FAR, "size_vram": 0, "context_length": service.agent.max_positions}
    return json_response({"models": [{**_described(service), **loaded}]})


async def _show(site: Site, request: Request) -> Response:
    service = site.ready()
    model_of(await _body(site, request), service.config.served_name)
    described = _described(service)
    return json_response(
        {
            "license": "",
            "modelfile": "",
            "parameters": "",
            "template": "",
            "details": described["details"],
            "model_info": {
                "general.architecture": "hybrid",
                "hybrid.context_length": service.agent.max_positions,
                "hybrid.vocab_size": service.agent.text.vocab_size,
            },
            "capabilities": ["completion", "tools"],
            "modified_at": described["modified_at"],
        }
    )


async def _complete(parse: Parse, site: Site, request: Request) -> Response:
    service = site.ready()
    body, is_chat = await _body(site, request), parse is chat
    asked = parse(body, service.config.served_name)
    if asked is None:
        named = model_of(body, service.config.served_name)
        return json_response(OllamaForm(Asked("", named), is_chat=is_chat).loaded())
    await service.prepare(way="ollama", **asked.options)
    answer = service.ask(asked.prompt, way="ollama", **asked.options)
    return AnswerResponse(service, answer, OllamaForm(asked, answer, is_chat=is_chat), streams=asked.streams)


async def _pull(site: Site, request: Request) -> Response:
    """The model that is served is there; no other can be had."""
    model_of(await _body(site, request), site.ready().config.served_name)
    return json_response({"status": "success"})


async def _refuse(_site: Site, request: Request) -> Response:
    raise ApiError(501, f"{request.url.path} is not supported here", code="not_supported")


async def _body(site: Site, request: Request) -> Json:
    return parse_object(await site.bodies.read(request.scope, request.receive))


def _described(service: Service) -> dict[str, Any]:
    config = service.config
    name = f"{config.served_name}:latest"
    modified = timestamp(datetime.fromtimestamp(int(service.began_at), UTC))
    return {
        "name": name,
        "model": name,
        "modified_at": modified,
        "size": service.agent.model_bytes,
        "digest": sha256(f"{config.model} {config.pool}".encode()).hexdigest(),
        "details": {
            "parent_model": "",
            "format": "onnx",
            "family": "hybrid",
            "families": ["hybrid"],
            "parameter_size": "",
            "quantization_level": "",
        },
    }
