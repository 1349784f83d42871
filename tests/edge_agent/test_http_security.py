"""Who may use the API, and what hostile clients can do to it, over real connections to an agent."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.errors import ConfigError, ServingError
from edge_agent.http import status_pages
from edge_agent.http.access.guard import Guard
from edge_agent.http.access.keys import key_of
from edge_agent.http.api_errors import ApiError
from edge_agent.http.server import bodies, connection
from edge_agent.http.server.listening import bound
from edge_agent.http.serving import serving
from edge_agent.service.service import Service

KEY = "a-secret-key"


@dataclass
class Served:
    """An agent on a port of this process."""

    port: int

    async def send(self, raw: bytes) -> bytes:
        """All that comes back until the connection ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(raw)
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return answer

    async def get(
        self, path: str, *headers: str, method: str = "GET", body: bytes = b""
    ) -> tuple[int, bytes]:
        lines = [f"{method} {path} HTTP/1.1", "Connection: close", f"Content-Length: {len(body)}", *headers]
        if not any(one.startswith("Host:") for one in headers):
            lines.append(f"Host: 127.0.0.1:{self.port}")
        answer = await self.send("\r\n".join([*lines, "", ""]).encode() + body)
        head, _, content = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), content


@asynccontextmanager
async def served(**settings: Any) -> AsyncGenerator[Served]:
    config = AgentConfig(scheme="slm", max_tokens=4, **settings)
    listener = bound("127.0.0.1", 0, "http_port")
    port = listener.getsockname()[1]
    async with serving(config, [listener]) as (site, _), EdgeAgent.open(config) as agent:
        site.service = Service(agent)
        yield Served(port)


def run(check: Callable[[Served], Any], **settings: Any) -> None:
    async def checked() -> None:
        async with served(**settings) as server:
            await check(server)

    asyncio.run(checked())


# -- pure -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("127.0.0.1:8080", True),
        ("localhost", True),
        ("[::1]:8080", True),
        ("192.168.1.7:8080", True),
        ("pi", True),
        ("pi.local:8080", True),
        ("apps.example", True),
        ("me.example.", True),
        ("evil.com", False),
        ("evil.com:8080", False),
        ("127.0.0.1.evil.com", False),
        ("pi.local.evil.com", False),
        ("1.2.3.4.5.com", False),
    ],
)
def test_names_that_a_foreign_site_can_point_here_are_refused(host: str, is_allowed: bool) -> None:
    guard = Guard(origins=("https://apps.example",), names=("me.example",))
    if is_allowed:
        guard.check("GET", "/health", {"host": host})
        return
    with pytest.raises(ApiError) as refused:
        guard.check("GET", "/health", {"host": host})
    assert (refused.value.status, refused.value.code) == (403, "host_not_allowed")


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("http://127.0.0.1:8080", True),
        ("https://apps.example", True),
        ("http://apps.example", False),
        ("https://apps.example.evil.com", False),
        ("http://127.0.0.1:9999", False),
        ("null", False),
    ],
)
def test_only_our_page_and_allowed_sites_may_ask(origin: str, is_allowed: bool) -> None:
    headers = {"host": "127.0.0.1:8080", "origin": origin}
    guard = Guard(origins=("https://apps.example",))
    if is_allowed:
        guard.check("POST", "/v1/chat/completions", headers)
        return
    with pytest.raises(ApiError, match="http_origins"):
        guard.check("POST", "/v1/chat/completions", headers)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"authorization": f"Bearer {KEY}"}, None),
        ({"authorization": f"bearer {KEY}"}, None),
        ({"x-api-key": KEY}, None),
        ({"authorization": "Basic YW55OmEtc2VjcmV0LWtleQ=="}, None),
        ({}, "missing_api_key"),
        ({"authorization": "Bearer"}, "invalid_api_key"),
        ({"authorization": "Bearer wröng"}, "invalid_api_key"),
        ({"authorization": "Basic !!"}, "invalid_api_key"),
    ],
)
def test_a_key_comes_in_any_of_its_headers(headers: dict[str, str], code: str | None) -> None:
    guard = Guard(KEY)
    guard.check("GET", "/", {})
    guard.check("GET", "/health", {})
    if code is None:
        guard.check("GET", "/metrics", headers)
        return
    with pytest.raises(ApiError) as refused:
        guard.check("GET", "/metrics", headers)
    assert (refused.value.status, refused.value.code) == (401, code)


def test_a_key_is_made_where_other_machines_can_connect(tmp_path: Path) -> None:
    assert key_of(AgentConfig()) == (None, False)
    assert key_of(AgentConfig(http_key=KEY)) == (KEY, False)
    assert key_of(AgentConfig(http_host="0.0.0.0", http_auth=False)) == (None, False)
    first, is_new = key_of(AgentConfig(http_host="0.0.0.0"))
    assert is_new
    assert first != key_of(AgentConfig(http_host="::"))[0]
    (tmp_path / "key").write_text(f"{KEY}\nmore\n")
    assert key_of(AgentConfig(http_key_file=str(tmp_path / "key"))) == (KEY, False)
    (tmp_path / "key").write_text("short")
    with pytest.raises(ServingError, match="8 to 200"):
        key_of(AgentConfig(http_key_file=str(tmp_path / "key")))
    with pytest.raises(ServingError, match="cannot read"):
        key_of(AgentConfig(http_key_file=str(tmp_path / "none")))


@pytest.mark.parametrize(
    "settings",
    [
        {"http_key": "short"},
        {"http_key": "with spaces in it"},
        {"http_key": KEY, "http_key_file": "x"},
        {"http_key": KEY, "http_auth": False},
        {"http_origins": ("apps.example",)},
        {"http_origins": ("https://apps.example/",)},
        {"ollama_port": 8080},
        {"served_name": "a@b"},
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        AgentConfig(**settings)


# -- over a connection ------------------------------------------------------------------------------------


async def _check_key(server: Served) -> None:
    for path in (
        "/v1/models",
        "/api/tags",
        "/metrics",
        "/hybrid/v1/pool",
        "/hybrid/v1/events",
        "/props",
        "/slots",
    ):
        assert (await server.get(path))[0] == 401, path
    asked = partial(server.get, "/v1/chat/completions", method="POST", body=b'{"messages": []}')
    assert (await asked())[0] == 401
    assert (await asked(f"Authorization: Bearer {KEY}"))[0] == 400
    assert [(await server.get(path))[0] for path in ("/", "/health")] == [200, 200]


def test_everything_but_the_page_and_health_needs_the_key() -> None:
    run(_check_key, http_key=KEY)


async def _check_sites(server: Served) -> None:
    path = "/v1/chat/completions"
    assert (await server.get("/health", "Host: evil.com"))[0] == 403
    assert (await server.get(path, "Origin: https://evil.com", method="POST"))[0] == 403
    assert (await server.get(path, "Origin: https://evil.com", method="OPTIONS"))[0] == 403
    ask = f"OPTIONS {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: https://apps.example\r\n\r\n"
    answer = (await server.send(ask.encode())).lower()
    assert b"access-control-allow-origin: https://apps.example" in answer
    same = await server.send(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"access-control" not in same.lower()
    assert b"server:" not in same.lower()
    assert b"nosniff" in same


def test_a_foreign_site_gets_nothing_and_an_allowed_one_may_read() -> None:
    run(_check_sites, http_origins=("https://apps.example",))


async def _check_paths(server: Served) -> None:
    for path in (
        "/page/../config.py",
        "/page/%2e%2e/config.py",
        "/page/..%2fconfig.py",
        "/page//etc/passwd",
        "/page/",
    ):
        status, body = await server.get(path)
        assert status == 404, path
        assert b"import" not in body
    assert (await server.get("/health", method="POST"))[0] == 405


def test_no_path_leads_out_of_the_page() -> None:
    run(_check_paths)


async def _check_bodies(server: Served) -> None:
    big = json.dumps({"messages": [{"role": "user", "content": "a" * (1 << 20)}]}).encode()
    status, body = await server.get("/v1/chat/completions", method="POST", body=big)
    assert (status, json.loads(body)["error"]["code"]) == (413, "body_too_large")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    head += b"Connection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head)
    piece = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    for _ in range(20):  # more than the limit
        writer.write(piece)
    writer.write(b"0\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 20)
    assert b" 413 " in answer.splitlines()[0]
    writer.close()
    promised = b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n"
    assert b" 400 " in (await server.send(promised)).splitlines()[0]
    first = b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n"
    assert b" 413 " in (await server.send(first)).splitlines()[0]
    assert (await server.get("/health"))[0] == 200


def test_a_huge_body_is_refused_however_it_is_sent() -> None:
    run(_check_bodies)


async def _check_slow(server: Served) -> None:
    started = await server.send(b"GET /health HTT")  # and no more
    assert started == b""
    slow_body = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"
    assert b" 408 " in (await server.send(slow_body)).splitlines()[0]


def test_a_slow_client_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT", 0.2)
    monkeypatch.setattr(bodies, "BODY_TIMEOUT", 0.2)
    run(_check_slow)


async def _check_crowd(server: Served) -> None:
    held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(4)]
    assert b" 503 " in (await server.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")).splitlines()[0]
    for _, writer in held:
        writer.close()
        await writer.wait_closed()
    await asyncio.sleep(0)
    assert (await server.get("/health"))[0] == 200


def test_one_connection_too_many_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 4)
    run(_check_crowd)


async def _check_bug(server: Served) -> None:
    status, body = await server.get("/health")
    assert status == 500
    assert json.loads(body)["error"]["code"] == "internal_error"
    assert b"secret" not in body


def test_a_bug_is_a_500_and_one_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_service: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(status_pages, "status", broken)
    with caplog.at_level(logging.INFO):
        run(_check_bug)
    (record,) = (one for one in caplog.records if one.levelno >= logging.WARNING)
    assert "GET '/health' failed: KeyError" in record.getMessage()
    assert record.exc_info is None


async def _check_garbage(server: Served) -> None:
    for raw in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n", b"A" * 100_000 + b"\r\n\r\n"):
        answer = await server.send(raw)
        assert answer == b"" or b" 400 " in answer.splitlines()[0]
    assert (await server.get("/health"))[0] == 200


def test_bytes_that_are_not_http_end_their_connection() -> None:
    run(_check_garbage)


def test_an_address_that_is_taken_is_one_line() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(ServingError, match="Address already in use"):
        bound("127.0.0.1", taken.getsockname()[1], "http_port")
    with pytest.raises(ServingError, match=r"cannot listen on no\.such\.host\.invalid:80"):
        bound("no.such.host.invalid", 80, "http_port")
