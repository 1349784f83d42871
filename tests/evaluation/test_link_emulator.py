"""The emulator does what it says: it delays, slows down and cuts, and never loses or reorders."""

import asyncio
import contextlib
import socket
import struct
import time
from pathlib import Path

import pytest

from benchmarks.support.link_emulator import Conditions, LinkEmulator, Trace


async def echo_server() -> asyncio.Server:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                writer.write(data)
        writer.close()

    return await asyncio.start_server(echo, "127.0.0.1", 0)


async def round_trip(up: Conditions, down: Conditions, payload: bytes) -> float:
    server = await echo_server()
    async with server, LinkEmulator("127.0.0.1", server.sockets[0].getsockname()[1], up, down) as link:
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        began = time.monotonic()
        writer.write(payload)
        assert await reader.readexactly(len(payload)) == payload
        writer.close()
        assert link.num_bytes_up == link.num_bytes_down == len(payload)
        return time.monotonic() - began


def test_both_delays_make_the_round_trip() -> None:
    assert asyncio.run(round_trip(Conditions(0.1), Conditions(0.05), b"x")) >= 0.15


def test_a_rate_makes_large_messages_late() -> None:
    payload = bytes(range(256)) * 100
    assert asyncio.run(round_trip(Conditions(rate_mbps=1.0), Conditions(), payload)) >= 8e-6 * len(payload)


def test_jitter_keeps_the_order() -> None:
    payload = bytes(i % 251 for i in range(200_000))
    asyncio.run(round_trip(Conditions(jitter=0.01), Conditions(jitter=0.01), payload))


def test_a_cut_ends_connections_and_refuses_new_ones_for_a_while() -> None:
    async def scenario() -> None:
        server = await echo_server()
        async with server, LinkEmulator("127.0.0.1", server.sockets[0].getsockname()[1]) as link:
            reader, _ = await asyncio.open_connection("127.0.0.1", link.port)
            await asyncio.sleep(0.05)
            await link.cut(0.3)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            refused, _ = await asyncio.open_connection("127.0.0.1", link.port)
            with contextlib.suppress(ConnectionError):
                assert await refused.read() == b""
            await asyncio.sleep(0.35)
            reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
            writer.write(b"again")
            assert await reader.readexactly(5) == b"again"
            writer.close()

    asyncio.run(scenario())


def test_a_connection_that_is_reset_ends_on_the_other_side_too() -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readexactly(5) == b"hello"
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            ended.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        slow = Conditions(delay=0.1)
        async with server, LinkEmulator("127.0.0.1", server.sockets[0].getsockname()[1], slow) as link:
            with socket.create_connection(("127.0.0.1", link.port)) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.sendall(b"hello")
                await asyncio.sleep(0.05)
            async with asyncio.timeout(10):  # closed with a reset
                await ended.wait()

    asyncio.run(scenario())


def test_a_trace_is_replayed_and_repeats(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("t_s,ul_mbps\n0,8\n1,2\n2,0\n3,1\n")
    trace = Trace.read(file)
    assert [trace.at(t) for t in (0.5, 1.5, 2.5, 3.5, 4.5)] == [8, 2, 0.01, 8, 2]
    assert Conditions(trace=trace).seconds_to_send(1_000_000, at=0.5) == pytest.approx(1.0)
