"""A TCP relay before a broker that counts the bytes of the PUBLISH packets really sent, either way."""

import asyncio
from types import TracebackType
from typing import Self

PUBLISH = 3


class PacketCounter:
    """`async with PacketCounter(broker.port) as counter:` and connect to `counter.url`."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._relays: list[asyncio.Task[None]] = []
        self.num_bytes_up = 0
        self.num_bytes_down = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close in the next turn of the loop

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        self._relays.append(asyncio.create_task(self._relay(from_client, to_broker, up=True)))
        self._relays.append(asyncio.create_task(self._relay(from_broker, to_client, up=False)))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        try:
            while packet := await read_packet(reader):
                if packet[0] >> 4 == PUBLISH and up:
                    self.num_bytes_up += len(packet)
                elif packet[0] >> 4 == PUBLISH:
                    self.num_bytes_down += len(packet)
                writer.write(packet)
        finally:
            writer.close()


async def read_packet(reader: asyncio.StreamReader) -> bytes:
    """One whole MQTT packet; empty at the end of the stream."""
    try:
        head = await reader.readexactly(1)
        size, shift = 0, 0
        while True:
            byte = await reader.readexactly(1)
            head += byte
            size |= (byte[0] & 127) << shift
            shift += 7
            if byte[0] < 128:
                return head + await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        return b""
