"""A line that is dead without a sign, and well again some seconds later."""

import asyncio
from contextlib import suppress

from common.link import Delivery, Link, LinkSettings
from common.link.line_watch import PATIENCE, QUIET, SLOWEST, LineWatch, Look
from evaluation.local.broker import LocalBroker


def looks(watch: LineWatch, begin: int, end: int, num_unacknowledged: int = 0) -> list[Look]:
    """What it says once a second."""
    return [watch.look(float(now), num_unacknowledged) for now in range(begin, end)]


def test_a_silent_line_is_pinged_only_after_the_keepalive() -> None:
    watch = LineWatch(20.0, heard_at=0.0)
    assert set(looks(watch, 1, 20)) == {Look.NOTHING}
    assert watch.look(20.0, 0) is Look.PING
    watch.heard(20.1)
    assert set(looks(watch, 21, 40)) == {Look.NOTHING}


def test_a_line_that_answers_nothing_is_dead_within_seconds() -> None:
    watch = LineWatch(20.0, heard_at=0.0)
    watch.sent(1.0, 200)
    seen = looks(watch, 2, 9)
    assert seen.index(Look.PING) + 2 == 1 + QUIET
    assert seen.index(Look.HANG_UP) + 2 <= 1 + QUIET + PATIENCE + 1


def test_a_line_that_answers_a_ping_lives_however_long_the_worker_takes() -> None:
    watch = LineWatch(20.0, heard_at=0.0)
    for second in range(1, 100):
        watch.sent(float(second), 200)
        if watch.look(float(second), 0) is Look.PING:
            watch.heard(second + 0.5)
        assert watch.pinged_at is None


def test_a_slow_line_that_moves_is_not_dead() -> None:
    watch = LineWatch(20.0, heard_at=0.0)
    watch.sent(0.0, 500_000)
    left = range(500_000, 0, -5_000)
    assert Look.HANG_UP not in [watch.look(float(now), size) for now, size in enumerate(left)]


def test_what_was_sent_may_take_its_time_in_buffers_on_the_way() -> None:
    watch = LineWatch(20.0, heard_at=0.0)
    watch.sent(0.0, int(20 * SLOWEST))
    assert Look.HANG_UP not in looks(watch, 1, 20)
    assert Look.HANG_UP in looks(watch, 20, 30)


def test_a_process_that_was_stopped_does_not_blame_the_line() -> None:
    watch = LineWatch(20.0, heard_at=0.0)
    watch.sent(0.0, 200)
    assert Look.PING in looks(watch, 1, 4)
    assert watch.look(1000.0, 0) is Look.NOTHING


class Line:
    """A relay; connections that exist or begin while it is dead carry nothing, for ever."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._lives = asyncio.Event()
        self._lives.set()
        self._generation = 0
        self.num_refused = 0
        self.url = ""

    def die(self) -> None:
        self._generation += 1
        self._lives.clear()

    def heal(self) -> None:
        self._lives.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        generation = self._generation
        if not self._lives.is_set():
            self.num_refused += 1
            generation = -1
        to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        with suppress(ConnectionError):
            await asyncio.gather(
                self._carry(reader, to_broker[1], generation), self._carry(to_broker[0], writer, generation)
            )

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, generation: int
    ) -> None:
        while data := await reader.read(4096):
            if generation == self._generation:
                writer.write(data)
        writer.close()


def test_a_line_that_was_dead_for_12_seconds_is_used_at_once(broker: LocalBroker) -> None:
    async def scenario() -> None:
        line = Line(broker.port)
        server = await asyncio.start_server(line.accept, "127.0.0.1", 0)
        async with server:
            url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Link(LinkSettings(url), subscriptions=["a"]) as link:
                line.die()
                await link.send("a", b"lost")
                await asyncio.sleep(12)
                assert line.num_refused > 0  # it has noticed, and tried
                line.heal()
                async with asyncio.timeout(6):
                    while link.statistics.num_connects < 2:
                        await asyncio.sleep(0.01)
                assert await link.send("a", b"kept", qos=1) is Delivery.SENT
                assert (await link.receive()).payload == b"kept"

    asyncio.run(scenario())


def test_a_line_on_which_nothing_is_said_stays_up(broker: LocalBroker) -> None:
    """Both paho and the watch ping it after the keepalive; neither takes the other's ping for a silence."""

    async def idle() -> int:
        settings = LinkSettings(broker.url, keepalive=1)
        async with Link(settings) as link:
            await asyncio.sleep(4.5)  # several keepalives
            return link.statistics.num_connects

    assert asyncio.run(idle()) == 1
