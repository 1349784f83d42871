"""A server that answers MQTT packets as a test says: for answers that no broker at hand gives."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.fuzz.flood import packet
from tests.support.packet_counter import read_packet

Code = TypeVar("Code")

CONNECT, PUBLISH, SUBSCRIBE, PINGREQ = 1, 3, 8, 12


@dataclass
class Script:
    """The reason codes that the broker gives, each the last for ever; `None` is no answer at all."""

    connack: list[int] = field(default_factory=lambda: [0])
    properties: bytes = b""  # of the CONNACK
    suback: list[int] = field(default_factory=lambda: [1])
    end: list[int] = field(default_factory=list[int])  # DISCONNECTs in place of the first SUBACKs
    puback: list[int | None] = field(default_factory=lambda: [0])
    disconnect: int | None = None  # sent in place of the first PUBACK
    received: list[bytes] = field(default_factory=list[bytes])  # whole packets
    url: str = ""

    def num(self, kind: int) -> int:
        """How many packets of a kind have arrived."""
        return sum(one[0] >> 4 == kind for one in self.received)


@asynccontextmanager
async def scripted_broker(script: Script) -> AsyncGenerator[Script]:
    """Serve on a free port, `script.url`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await read_packet(reader):
                script.received.append(data)
                writer.write(_answer(script, data))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        script.url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield script


def _answer(script: Script, data: bytes) -> bytes:
    body = data[2 if data[1] < 128 else 3 :]
    match data[0] >> 4:
        case 1:
            return packet(0x20, bytes([0, _next(script.connack), len(script.properties)]) + script.properties)
        case 8 if script.end:
            return packet(0xE0, bytes([script.end.pop(0), 0]))
        case 8:
            return packet(0x90, body[:2] + bytes([0, _next(script.suback)]))
        case 3 if data[0] & 6:
            if script.disconnect is not None:
                code, script.disconnect = script.disconnect, None
                return packet(0xE0, bytes([code, 0]))
            code = _next(script.puback)
            size = int.from_bytes(body[:2], "big")
            return b"" if code is None else packet(0x40, body[2 + size : 4 + size] + bytes([code, 0]))
        case 12:
            return packet(0xD0, b"")
        case _:
            return b""


def _next(codes: list[Code]) -> Code:
    return codes.pop(0) if len(codes) > 1 else codes[0]
