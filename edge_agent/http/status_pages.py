"""What the agent does: health, status, events, and llama.cpp's `/props` and `/slots`."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from edge_agent.http.answers.forms import as_json
from edge_agent.http.answers.replies import json_response, unless_left
from edge_agent.http.api_errors import ApiError
from edge_agent.http.requests.fields import Fields, parse_object
from edge_agent.http.site import Site
from edge_agent.service.facts import stats, status
from edge_agent.service.notices import Notice
from edge_agent.service.service import Service
from edge_agent.session.settings import OnCloudLoss

if TYPE_CHECKING:
    from edge_agent.monitoring.metrics import Metrics

INTERVAL = 1.0  # seconds between two looks at the counts
HEARTBEAT = 15.0


def routes(site: Site) -> list[BaseRoute]:
    """Those that only read, and `cancel`."""
    return [
        Route("/health", partial(_health, site)),
        Route("/v1/health", partial(_health, site)),
        Route("/hybrid/v1/status", partial(_status, site)),
        Route("/hybrid/v1/events", partial(_events, site)),
        Route("/hybrid/v1/cancel", partial(_cancel, site), methods=["POST"]),
        Route("/props", partial(_props, site)),
        Route("/slots", partial(_slots, site)),
        Route("/metrics", _Metrics(site).page),
        Route("/hybrid/v1/pool", partial(_pool, site)),
    ]


async def _health(site: Site, _request: Request) -> Response:
    service = site.ready()
    facts = status(service)
    is_needed = facts["needs_cloud"] and facts["on_cloud_loss"] != OnCloudLoss.LOCAL.value
    is_well = not service.is_closing and (facts["cloud"] or not is_needed)
    word = "ok" if is_well else "stopping" if service.is_closing else "no cloud"
    shown = {name: facts[name] for name in ("cloud", "worker", "scheme")}
    return json_response({"status": word, **shown}, 200 if is_well else 503)


async def _status(site: Site, _request: Request) -> Response:
    return json_response(_facts(site.ready()))


def _facts(service: Service) -> dict[str, Any]:
    return {**status(service), "stats": stats(service)}


async def _events(site: Site, _request: Request) -> Response:
    return _Events(site.ready())


class _Events(Response):
    """Server-sent events: the status at once, on each change, and when the counts have changed."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if await unless_left(receive, self._watch(send)):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, send: Send) -> None:
        changed = asyncio.Event()

        def note(_notice: Notice) -> None:
            changed.set()

        shown: dict[str, Any] = {}
        clock = asyncio.get_running_loop().time
        last = clock()
        with self._service.watched(note):
            while not self._service.is_closing:
                facts = _facts(self._service)
                if facts != shown:
                    shown, last = facts, clock()
                    await send(_body(b"event: status\ndata: " + as_json(facts) + b"\n\n"))
                elif clock() - last >= HEARTBEAT:
                    last = clock()
                    await send(_body(b": alive\n\n"))
                try:
                    async with asyncio.timeout(INTERVAL):
                        await changed.wait()
                except TimeoutError:
                    pass
                changed.clear()
        await send(_body(b"event: bye\ndata: {}\n\n"))


def _body(content: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": True}


async def _cancel(site: Site, request: Request) -> Response:
    service = site.ready()
    body = await site.bodies.read(request.scope, request.receive)
    id = Fields(parse_object(body)).text("id", most=200) if body.strip() else None
    if id is not None:
        id = id.removeprefix("chatcmpl-").removeprefix("cmpl-")
    if not service.cancel(id):
        raise ApiError(404, "no such answer is running", code="not_running")
    return json_response({"cancelled": True})


async def _props(site: Site, _request: Request) -> Response:
    service = site.ready()
    agent, config = service.agent, service.config
    return json_response(
        {
            "default_generation_settings": {"n_ctx": agent.max_positions, "params": _defaults(service)},
            "total_slots": agent.num_slots,
            "model_alias": config.served_name,
            "model_path": config.model,
            "modalities": {"vision": False, "audio": False},
            "chat_template_caps": {"supports_tools": agent.text.has_chat_template},
            "build_info": f"hybrid-lm {status(service)['version']}",
        }
    )


async def _pool(site: Site, _request: Request) -> Response:
    service = site.ready()
    if not site.is_private:
        raise ApiError(403, "the pool is shown only with a key: set `http_key`", code="key_needed")
    if site.pool is None:
        raise ApiError(404, "this agent uses no broker", code="no_pool")
    return json_response({"pool": service.config.pool, "workers": await site.pool.workers()})


class _Metrics:
    """What `metrics_port` shows; its library is loaded with the first request."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._metrics: Metrics | None = None

    async def page(self, _request: Request) -> Response:
        agent = self._site.ready().agent
        self._metrics = self._metrics or agent.metrics()
        page = self._metrics.page()
        return Response(page.body, page.status, headers={"content-type": page.content_type})


def _defaults(service: Service) -> dict[str, Any]:
    config = service.config
    names = ("temperature", "top_k", "top_p", "min_p", "presence_penalty", "frequency_penalty", "seed")
    return {**{name: getattr(config, name) for name in names}, "n_predict": config.max_tokens}


async def _slots(site: Site, request: Request) -> Response:
    service = site.ready()
    if request.query_params.get("fail_on_no_slot") and not service.num_free:
        raise ApiError(503, "no slot is free", code="no_slot", retry_after=1)
    running = service.running
    return json_response(
        [
            {
                "id": number,
                "n_ctx": service.agent.max_positions,
                "is_processing": number < len(running),
                "id_task": running[number].id if number < len(running) else None,
            }
            for number in range(service.agent.num_slots)
        ]
    )
