"""Just enough of a WebSocket client to send JSON to a server on this machine and read its answers."""

import base64
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO


def exchange(port: int, path: str, messages: Sequence[Mapping[str, object]]) -> Iterator[Any]:
    """Send each message after one that came; yield those that came, and the answer to the last."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        reader = connection.makefile("rb")
        assert b" 101 " in reader.readline()
        while reader.readline().strip():
            pass
        for message in messages:
            yield _read(reader)
            connection.sendall(_frame(json.dumps(message).encode()))
        yield _read(reader)


def _frame(payload: bytes) -> bytes:
    """One text frame; its mask is zero, which leaves the payload as it is."""
    return bytes([0x81, 0x80 | 126]) + len(payload).to_bytes(2, "big") + bytes(4) + payload


def _read(reader: BinaryIO) -> Any:
    length = reader.read(2)[1]
    if length == 126:
        length = int.from_bytes(reader.read(2), "big")
    elif length == 127:
        length = int.from_bytes(reader.read(8), "big")
    return json.loads(reader.read(length))
