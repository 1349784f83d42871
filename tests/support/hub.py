"""A stand-in for the Hugging Face hub: the few endpoints that a download uses, over HTTP on this machine.

It can cut a file short once, hold it half sent, or corrupt it, and notes every request for a file.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 10_000  # bytes from which a file is stored as LFS


class StandInHub:
    """`with StandInHub("someone/model", files) as hub:`, at `hub.url`."""

    def __init__(self, name: str, files: Mapping[str, bytes]) -> None:
        self.name, self.files = name, dict(files)
        self.cut: set[str] = set()  # cut off in the middle, once
        self.held: set[str] = set()  # sent to the middle, then nothing, once
        self.corrupt: set[str] = set()  # with a wrong byte, as long as it is in here
        self.asked: list[tuple[str, str | None]] = []  # file and range of each GET
        self.is_held = threading.Event()
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The value for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def info(self) -> bytes:
        """The repository as the hub's API describes it."""
        siblings = [self._sibling(file, content) for file, content in self.files.items()]
        return json.dumps({"id": self.name, "sha": COMMIT, "siblings": siblings}).encode()

    def tree(self) -> bytes:
        """Its files as the hub's API lists them."""
        return json.dumps(
            [
                {"type": "file", "path": file, "size": len(content), "oid": _blob(content)}
                for file, content in self.files.items()
            ]
        ).encode()

    def _sibling(self, file: str, content: bytes) -> dict[str, object]:
        found: dict[str, object] = {"rfilename": file, "size": len(content), "blobId": _blob(content)}
        if len(content) >= LARGE:
            found["lfs"] = {"sha256": _sha256(content), "size": len(content), "pointerSize": 130}
        return found

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def _answer(self, *, with_body: bool) -> None:
                path = unquote(urlsplit(self.path).path)
                if path.startswith(f"/api/models/{hub.name}"):
                    self._send(hub.tree() if "/tree/" in path else hub.info(), {}, with_body=with_body)
                    return
                prefix = f"/{hub.name}/resolve/{COMMIT}/"
                file = path.removeprefix(prefix)
                if not path.startswith(prefix) or file not in hub.files:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound" if hub.name in path else "RepoNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self._send_file(file, with_body=with_body)

            def _send_file(self, file: str, *, with_body: bool) -> None:
                content = hub.files[file]
                etag = _sha256(content) if len(content) >= LARGE else _blob(content)
                headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
                if file in hub.corrupt:
                    content = content[:-1] + bytes([content[-1] ^ 1])
                if with_body:
                    hub.asked.append((file, self.headers.get("Range")))
                self._send(content, headers, with_body=with_body, file=file)

            def _send(
                self, content: bytes, headers: Mapping[str, str], *, with_body: bool, file: str = ""
            ) -> None:
                start = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
                self.send_response(206 if start else 200)
                for name, value in headers.items():
                    self.send_header(name, value)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                if not with_body:
                    return
                rest, half = content[start:], len(content) // 2
                if file in hub.cut | hub.held and not start:
                    self.wfile.write(rest[:half])
                    self.wfile.flush()
                    self.close_connection = True
                    if file in hub.held:
                        hub.held.discard(file)
                        hub.is_held.set()
                        hub._released.wait()
                    hub.cut.discard(file)
                    return
                self.wfile.write(rest)

        return Handler


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _blob(content: bytes) -> str:
    """Git's hash of a file."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
