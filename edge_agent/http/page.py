"""The page and its files, from the package `edge_agent/page`.

Law: only the files that are there when the process starts, of a few types, are served; a name is looked up,
never joined to a path. The page loads nothing from elsewhere.
"""

from collections.abc import Mapping
from functools import partial
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from edge_agent.http.access.guard import ANY
from edge_agent.http.api_errors import ApiError
from edge_agent.http.ollama.pages import RUNNING
from edge_agent.http.site import Site

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "webmanifest": "application/manifest+json",
}
INDEX = "index.html"
_NO_PAGE = b"hybrid-lm: the API is at /v1 and /api; this installation has no page\n"


def routes(site: Site, *, ollama_port: int = 0) -> list[BaseRoute]:
    """`/` and `/page/NAME`; on Ollama's port, `/` is what its clients look for."""
    pages = _load()
    policy = _policy([one for one in site.guard.origins if one != ANY])
    index = partial(_index, pages, policy, ollama_port)
    return [Route("/", index), Route("/page/{name}", partial(_file, pages, policy))]


def _policy(origins: list[str]) -> str:
    ancestors = " ".join(["'self'", *origins])
    fixed = "default-src 'self'; base-uri 'none'; form-action 'none'; object-src 'none'"
    return f"{fixed}; frame-ancestors {ancestors}"


def _load() -> Mapping[str, tuple[str, bytes]]:
    folder = files("edge_agent").joinpath("page")
    if not folder.is_dir():
        return {}
    return {
        one.name: (TYPES[ending], one.read_bytes())
        for one in folder.iterdir()
        if (ending := one.name.rpartition(".")[2]) in TYPES and one.is_file()
    }


async def _index(
    pages: Mapping[str, tuple[str, bytes]], policy: str, ollama_port: int, request: Request
) -> Response:
    if ollama_port and request.scope["server"][1] == ollama_port:
        return Response(RUNNING, media_type="text/plain")
    if INDEX not in pages:
        return Response(_NO_PAGE, media_type="text/plain")
    return _served(pages[INDEX], policy)


async def _file(pages: Mapping[str, tuple[str, bytes]], policy: str, request: Request) -> Response:
    name = request.path_params["name"]
    if name not in pages:
        raise ApiError(404, "the page has no such file", code="not_found")
    return _served(pages[name], policy)


def _served(page: tuple[str, bytes], policy: str) -> Response:
    kind, content = page
    return Response(
        content, headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"}, media_type=kind
    )
