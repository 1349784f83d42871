"""The link against a real mosquitto: round trips, losses, refusals, and exact byte counts."""

import asyncio
import gc
import socket
import ssl
import subprocess
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.support.link_emulator import LinkEmulator
from common.link import Delivery, Link, LinkError, LinkSettings, Publish, Received
from common.link.inbox import Inbox
from common.link.packets import TopicAliases
from common.link.properties import packed_size, publish_properties
from common.protocol.codec import MAX_PAYLOAD_BYTES
from evaluation.local.broker import LocalBroker, free_port
from tests.support.certificates import Authority
from tests.support.packet_counter import PacketCounter, read_packet

PATIENCE = 10.0


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario; it fails if it hangs or leaves an exception that no one retrieved."""
    forgotten: list[dict[str, Any]] = []

    async def bounded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: forgotten.append(context))
        async with asyncio.timeout(PATIENCE * 2):
            await scenario

    asyncio.run(bounded(), debug=True)
    gc.collect()
    assert forgotten == []


async def next_of(link: Link) -> Received:
    async with asyncio.timeout(PATIENCE):
        return await link.receive()


def settings(broker: LocalBroker, **changes: Any) -> LinkSettings:
    return LinkSettings(broker.url, **changes)


async def failure_of(**changes: Any) -> str:
    with pytest.raises(LinkError) as caught:
        async with Link(LinkSettings(**changes)):
            pass
    return str(caught.value)


# -- sending and receiving -----------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1])
def test_messages_arrive_in_order_with_topic_and_payload(broker: LocalBroker, qos: int) -> None:
    async def scenario() -> None:
        async with Link(settings(broker), subscriptions=["a/+"]) as link:
            for index in range(300):
                assert await link.send(f"a/{index % 15}", b"%d" % index, qos=qos, expiry=5) is Delivery.SENT
            for index in range(300):
                assert await next_of(link) == Received(f"a/{index % 15}", b"%d" % index)

    run(scenario())


def test_messages_can_be_iterated(broker: LocalBroker) -> None:
    async def scenario() -> None:
        async with Link(settings(broker), subscriptions=["a"]) as link:
            await link.send("a", b"1")
            async for message in link:
                assert message.payload == b"1"
                break

    run(scenario())


def test_a_timeout_around_receive_loses_no_message(broker: LocalBroker) -> None:
    async def scenario() -> None:
        async with Link(settings(broker), subscriptions=["a"]) as link:
            received: list[bytes] = []
            for index in range(200):
                await link.send("a", b"%d" % index)
                try:
                    async with asyncio.timeout(0.0003):
                        received.append((await link.receive()).payload)
                except TimeoutError:
                    continue
            while len(received) < 200:
                received.append((await next_of(link)).payload)
            assert received == [b"%d" % index for index in range(200)]

    run(scenario())


def test_qos_1_tells_when_nobody_listens(broker: LocalBroker) -> None:
    async def scenario() -> None:
        async with Link(settings(broker)) as link:
            assert await link.send("a", b"x", qos=1) is Delivery.NO_SUBSCRIBERS
            assert await link.send("a", b"x", qos=0) is Delivery.SENT

    run(scenario())


def test_many_qos_1_messages_at_once_are_all_answered(broker: LocalBroker) -> None:
    async def scenario() -> None:
        async with Link(settings(broker), subscriptions=["a"]) as link:
            outcomes = await asyncio.gather(*(link.send("a", b"x", qos=1) for _ in range(500)))
            assert set(outcomes) == {Delivery.SENT}

    run(scenario())


def test_after_unsubscribing_nothing_more_arrives(broker: LocalBroker) -> None:
    async def scenario() -> None:
        async with Link(settings(broker), subscriptions=["a", "b"]) as link:
            await link.unsubscribe("a")
            await link.send("a", b"lost")
            await link.send("b", b"kept")
            assert (await next_of(link)).payload == b"kept"
            broker.restart()
            await reconnected(link, num_connects=2)
            await link.send("a", b"lost")
            await link.send("b", b"kept")
            assert (await next_of(link)).payload == b"kept"

    run(scenario())


def test_the_largest_payload_of_the_protocol_passes_the_development_broker(broker: LocalBroker) -> None:
    async def scenario() -> None:
        topic = "/".join(["x" * 31] * 7)
        async with Link(settings(broker), subscriptions=[topic]) as link:
            await link.send(topic, bytes(MAX_PAYLOAD_BYTES), qos=1, expiry=60)
            assert len((await next_of(link)).payload) == MAX_PAYLOAD_BYTES

    run(scenario())


def test_nagle_is_off(broker: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    sockets: list[socket.socket] = []
    create = socket.create_connection

    def remember(*args: Any, **kwargs: Any) -> socket.socket:
        sockets.append(create(*args, **kwargs))
        return sockets[-1]

    async def scenario() -> None:
        async with Link(settings(broker)):
            assert [sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for sock in sockets] == [1]

    monkeypatch.setattr(socket, "create_connection", remember)
    run(scenario())


def test_a_qos_1_round_trip_does_not_wait_for_a_fuller_packet(broker: LocalBroker) -> None:
    async def scenario() -> None:
        async with Link(settings(broker), subscriptions=["a"]) as link:
            durations: list[float] = []
            for _ in range(30):
                began = time.perf_counter()
                await link.send("a", b"x", qos=1)
                await next_of(link)
                durations.append(time.perf_counter() - began)
            assert sorted(durations)[15] < 0.02

    run(scenario())


# -- counting ------------------------------------------------------------------------------------------


def test_bytes_are_counted_as_they_cross_the_network(broker: LocalBroker) -> None:
    async def scenario() -> None:
        async with (
            PacketCounter(broker.port) as counter,
            Link(LinkSettings(counter.url), subscriptions=["hlm/#"]) as link,
        ):
            for index, size in enumerate([0, 1, 90, 130, 20000]):
                for topic in ("hlm/v1/correction/device/session", "hlm/ä"):
                    await link.send(topic, bytes(size), qos=index % 2)
                    await link.send(topic, bytes(size), expiry=30, retain=True)
            for _ in range(20):
                await next_of(link)
            statistics = link.statistics
            assert (statistics.num_messages_up, statistics.num_messages_down) == (20, 20)
            assert statistics.num_bytes_up == counter.num_bytes_up
            assert statistics.num_bytes_down == counter.num_bytes_down

    run(scenario())


def test_a_repeated_topic_is_sent_as_a_number(broker: LocalBroker) -> None:
    async def scenario() -> None:
        topic = "hlm/v1/correction/device/session"
        async with Link(settings(broker), subscriptions=[topic]) as link:
            await link.send(topic, b"first")
            first = link.statistics.num_bytes_up
            await link.send(topic, b"again")
            assert first - (link.statistics.num_bytes_up - first) == len(topic)
            assert await next_of(link) == Received(topic, b"first")
            assert await next_of(link) == Received(topic, b"again")

    run(scenario())


def test_the_least_recently_used_alias_gives_way() -> None:
    aliases = TopicAliases(2)
    assert [aliases.assign(topic) for topic in "abacb"] == [("a", 1), ("b", 2), ("", 1), ("c", 2), ("b", 1)]
    assert TopicAliases(0).assign("a") == ("a", None)


def test_a_full_inbox_drops_the_oldest_and_counts_them() -> None:
    async def scenario() -> None:
        inbox = Inbox(max_messages=3, max_bytes=10)
        assert [inbox.put(Received("t", bytes([index]))) for index in range(5)] == [0, 0, 0, 1, 1]
        assert inbox.put(Received("t", bytes(9))) == 2
        assert await inbox.get() == Received("t", bytes([4]))
        assert await inbox.get() == Received("t", bytes(9))
        inbox.close()
        assert await inbox.get() is None

    run(scenario())


# -- losing the broker ---------------------------------------------------------------------------------


async def reconnected(link: Link, num_connects: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while link.statistics.num_connects < num_connects or not link.connected:
            await asyncio.sleep(0.01)


def test_a_killed_broker_costs_messages_and_nothing_else(broker: LocalBroker) -> None:
    async def scenario() -> None:
        states: list[bool] = []
        async with Link(settings(broker), subscriptions=["a"], on_state=states.append) as link:
            broker.kill()
            while link.connected:
                await asyncio.sleep(0.01)
            assert await link.send("a", b"lost") is Delivery.DROPPED
            assert await link.send("a", b"lost", qos=1) is Delivery.DROPPED
            broker.start()
            await reconnected(link, num_connects=2)
            assert await link.send("a", b"kept", qos=1) is Delivery.SENT
            assert (await next_of(link)).payload == b"kept"
            assert link.statistics.num_dropped_up == 2
            assert states == [True, False, True]

    run(scenario())


def test_a_sender_that_waits_for_the_broker_is_told_when_it_dies(broker: LocalBroker) -> None:
    async def scenario() -> None:
        async with Link(settings(broker), subscriptions=["a"]) as link:
            senders = [asyncio.create_task(link.send("a", bytes(100_000), qos=1)) for _ in range(50)]
            await asyncio.sleep(0)
            broker.kill()
            async with asyncio.timeout(PATIENCE):
                outcomes = await asyncio.gather(*senders)
            assert Delivery.DROPPED in outcomes

    run(scenario())


def test_a_jammed_line_drops_instead_of_piling_up() -> None:
    async def scenario() -> None:
        async def accept_and_stop_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_packet(reader)
            writer.write(b"\x20\x03\x00\x00\x00")  # CONNACK without any property
            await done.wait()
            writer.close()

        done = asyncio.Event()
        server = await asyncio.start_server(accept_and_stop_reading, "127.0.0.1", 0, limit=1024)
        async with server:
            url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            began = time.monotonic()
            async with Link(LinkSettings(url)) as link:
                outcomes = [await link.send("a", bytes(100_000)) for _ in range(200)]
                assert outcomes[0] is Delivery.SENT
                assert outcomes[-1] is Delivery.DROPPED
                began = time.monotonic()
            assert time.monotonic() - began < 5.0, "leaving waited for a line that does not move"
            done.set()

    run(scenario())


def test_the_will_comes_at_every_end_and_expires(broker: LocalBroker) -> None:
    async def scenario() -> None:
        gone = Publish("status", b"gone", expiry=1)
        async with Link(settings(broker), subscriptions=["status"]) as watcher:
            async with Link(settings(broker), will=gone):
                pass
            assert (await next_of(watcher)).payload == b"gone"
        await asyncio.sleep(2.5)
        subscriptions = ["status", "marker"]
        async with Link(settings(broker), subscriptions=subscriptions, wants_retained=True) as late:
            await late.send("marker", b"nothing before")
            assert (await next_of(late)).payload == b"nothing before"

    run(scenario())


def test_a_pause_in_reading_loses_nothing_and_ends_by_itself(broker: LocalBroker) -> None:
    async def scenario() -> None:
        async with Link(settings(broker), subscriptions=["pause/#"]) as link, Link(settings(broker)) as other:
            link.pause_reading(30.0)
            await other.send("pause/a", b"1", qos=1)
            await asyncio.sleep(0.05)
            assert link.statistics.num_messages_down == 0
            link.resume_reading()
            assert (await next_of(link)).payload == b"1"
            link.pause_reading(0.01)
            await other.send("pause/a", b"2", qos=1)
            assert (await next_of(link)).payload == b"2"
            link.resume_reading()  # does nothing: it reads already

    run(scenario())


def test_a_connection_that_ends_during_a_pause_is_noticed(broker: LocalBroker) -> None:
    async def scenario() -> None:
        async with Link(settings(broker), subscriptions=["pause/#"]) as link:
            link.pause_reading(0.05)
            broker.kill()
            while link.connected:
                await asyncio.sleep(0.01)
            broker.start()
            await reconnected(link, 2)
            link.resume_reading()

    run(scenario())


@pytest.mark.parametrize("topic", ["a/b", "$share/pool/a/+"])
def test_what_a_stranger_retained_is_not_replayed(broker: LocalBroker, topic: str) -> None:
    async def scenario() -> None:
        async with Link(settings(broker)) as stranger:
            await stranger.send("a/b", b"old", qos=1, retain=True)
            async with Link(settings(broker), subscriptions=[topic, "c"]) as link:
                await stranger.send("c", b"new", qos=1)
                assert (await next_of(link)).payload == b"new"
            async with Link(settings(broker), subscriptions=["a/b"], wants_retained=True) as link:
                assert (await next_of(link)).payload == b"old"
            await stranger.send("a/b", b"", qos=1, retain=True)

    run(scenario())


def test_what_was_retained_is_not_replayed_after_a_reconnect(broker: LocalBroker) -> None:
    async def scenario() -> None:
        async with (
            Link(settings(broker)) as stranger,
            LinkEmulator("127.0.0.1", broker.port) as line,
            Link(LinkSettings(line.url), subscriptions=["a", "b"]) as link,
        ):
            await stranger.send("a", b"once", qos=1, retain=True)
            assert (await next_of(link)).payload == b"once"
            await line.cut()
            while link.statistics.num_connects < 2:
                await asyncio.sleep(0.01)
            await stranger.send("b", b"new", qos=1)
            assert (await next_of(link)).payload == b"new"
            await stranger.send("a", b"", qos=1, retain=True)

    run(scenario())


def test_a_link_may_begin_before_the_broker(tmp_path: Path) -> None:
    async def scenario() -> None:
        port = free_port()
        later = LocalBroker(tmp_path, port=port)
        link_settings = LinkSettings(later.url)
        async with Link(link_settings, subscriptions=["a"], wait_for_broker=True) as link:
            assert await link.send("a", b"lost") is Delivery.DROPPED
            with later:
                await reconnected(link, num_connects=1)
                await link.send("a", b"kept")
                assert (await next_of(link)).payload == b"kept"

    run(scenario())


def test_two_clients_with_one_id_take_turns_and_are_told_why(
    broker: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with (
            Link(settings(broker, client_id="twin")) as first,
            Link(settings(broker, client_id="twin")),
        ):
            while first.connected:
                await asyncio.sleep(0.01)
            while not caplog.messages:
                await asyncio.sleep(0.01)
        assert "another client may have the same client id" in caplog.messages[0]

    run(scenario())


def test_leaving_while_the_broker_is_away_is_quick(broker: LocalBroker) -> None:
    async def scenario() -> None:
        async with Link(settings(broker)) as link:
            broker.kill()
            while link.connected:
                await asyncio.sleep(0.01)
            began = time.monotonic()
        assert time.monotonic() - began < 2.0

    run(scenario())


def test_the_end_of_the_block_wakes_a_waiting_reader(broker: LocalBroker) -> None:
    async def scenario() -> None:
        async with Link(settings(broker)) as link:
            reader = asyncio.create_task(link.receive())
            await asyncio.sleep(0)
        with pytest.raises(LinkError, match="closed"):
            await reader

    run(scenario())


def test_cancelling_everything_leaves_no_task_behind(broker: LocalBroker) -> None:
    async def user() -> None:
        async with Link(settings(broker), subscriptions=["a"]) as link, asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.Event().wait())
            for _ in range(50):
                tasks.create_task(link.send("a", b"x", qos=1))

    async def scenario() -> None:
        tasks_before = asyncio.all_tasks()
        for delay in (0.0, 0.001, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.01, 0.02, 0.1):
            task = asyncio.create_task(user())
            await asyncio.sleep(delay)
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)
            assert task.cancelled()
        await asyncio.sleep(0.05)
        assert asyncio.all_tasks() == tasks_before

    run(scenario())


# -- refusals, each a one-line error -------------------------------------------------------------------


def test_no_broker_is_one_sentence() -> None:
    async def scenario() -> None:
        port = free_port()
        expected = f"no broker at 127.0.0.1:{port} (connection refused): start mosquitto or set `broker`"
        assert await failure_of(url=f"mqtt://127.0.0.1:{port}") == expected

    run(scenario())


def test_an_unknown_host_is_one_sentence() -> None:
    async def scenario() -> None:
        assert "'no-such-host.invalid' is unknown" in await failure_of(url="mqtt://no-such-host.invalid")

    run(scenario())


def test_a_wrong_password_is_one_sentence(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    subprocess.run(
        ["mosquitto_passwd", "-b", str(passwords), "device", "right"], check=True, capture_output=True
    )
    passwords.chmod(0o644)

    async def scenario(broker: LocalBroker) -> None:
        async with Link(settings(broker, username="device", password="right")):
            pass
        message = await failure_of(url=broker.url, username="device", password="wrong")
        assert (
            message == f"the broker at 127.0.0.1:{broker.port} refused the user name or password: check both"
        )

    lines = ["per_listener_settings false", "allow_anonymous false", f"password_file {passwords}"]
    with LocalBroker(tmp_path, settings=lines) as broker:
        run(scenario(broker))


def test_a_server_that_is_no_broker_is_one_sentence() -> None:
    async def scenario() -> None:
        async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            assert "hung up before the MQTT handshake" in await failure_of(url=f"mqtt://127.0.0.1:{port}")

    run(scenario())


def test_a_server_that_never_answers_is_one_sentence() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"mqtt://127.0.0.1:{silent.getsockname()[1]}"
            assert "no answer from" in await failure_of(url=url, connect_timeout=0.3)

    run(scenario())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"url": "localhost:1883"}, "not of the form"),
        ({"url": "http://localhost"}, "not of the form"),
        ({"url": "mqtt://"}, "not of the form"),
        ({"url": "mqtt://host:99999"}, "no valid port"),
        ({"url": "mqtt://host:0"}, "no valid port"),
        ({"url": "mqtt://host/topic"}, "after the port"),
        ({"url": "mqtt://user:secret@host"}, "set `username` and `password_file`"),
        ({"url": "mqtt://host", "ca_file": "ca.crt"}, "write mqtts://"),
        ({"url": "mqtts://host", "key_file": "a.key"}, "without its certificate"),
        ({"password": "x"}, "without a user name"),
    ],
)
def test_bad_settings_are_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LinkError, match=sentence) as caught:
        LinkSettings(**changes)
    assert "secret" not in str(caught.value)


def test_settings_know_hosts_ports_and_keep_passwords_to_themselves() -> None:
    assert LinkSettings("mqtt://localhost").address == "localhost:1883"
    assert LinkSettings("mqtts://[::1]").address == "::1:8883"
    assert "secret" not in repr(LinkSettings(username="device", password="secret"))


# -- TLS -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def tls_broker(folder: Path, authority: Authority, port: int, *more: str) -> LocalBroker:
    certificate, key = authority.issue("server")
    lines = [f"listener {port} 127.0.0.1", f"cafile {authority.ca_file}", f"certfile {certificate}"]
    return LocalBroker(folder, settings=[*lines, f"keyfile {key}", *more])


def test_tls_works_with_the_right_authority_only(tmp_path: Path, authority: Authority) -> None:
    port = free_port()

    async def scenario() -> None:
        url = f"mqtts://127.0.0.1:{port}"
        async with Link(LinkSettings(url, ca_file=authority.ca_file), subscriptions=["a"]) as link:
            assert await link.send("a", bytes(300_000), qos=1) is Delivery.SENT
            assert len((await next_of(link)).payload) == 300_000
        assert "TLS: the certificate of" in await failure_of(url=url)
        assert "TLS: the CA file missing.crt cannot be used" in await failure_of(
            url=url, ca_file="missing.crt"
        )
        assert "hung up" in await failure_of(url=f"mqtt://127.0.0.1:{port}")

    with tls_broker(tmp_path, authority, port):
        run(scenario())


def test_tls_to_a_plain_port_is_one_sentence(broker: LocalBroker) -> None:
    async def scenario() -> None:
        assert "is that the broker's TLS port?" in await failure_of(url=f"mqtts://127.0.0.1:{broker.port}")

    run(scenario())


def test_a_client_certificate_is_shown_where_one_is_wanted(tmp_path: Path, authority: Authority) -> None:
    port = free_port()
    certificate, key = authority.issue("device")

    async def scenario() -> None:
        url = f"mqtts://127.0.0.1:{port}"
        trusted = LinkSettings(url, ca_file=authority.ca_file, cert_file=certificate, key_file=key)
        async with Link(trusted) as link:
            assert await link.send("a", b"x", qos=1) is Delivery.NO_SUBSCRIBERS
        assert "`cert_file`" in await failure_of(url=url, ca_file=authority.ca_file)

    with tls_broker(tmp_path, authority, port, "require_certificate true"):
        run(scenario())


def test_certificates_for_another_host_are_not_trusted(tmp_path: Path, authority: Authority) -> None:
    port = free_port()

    async def scenario() -> None:
        message = await failure_of(url=f"mqtts://localhost:{port}", ca_file=authority.ca_file)
        assert "not trusted" in message

    assert ssl.HAS_TLSv1_3
    with tls_broker(tmp_path, authority, port):
        run(scenario())


@pytest.mark.parametrize("expiry", [None, 30])
@pytest.mark.parametrize("alias", [None, 7])
def test_packed_properties_are_those_of_paho(expiry: int | None, alias: int | None) -> None:
    expected = Properties(PacketTypes.PUBLISH)
    if expiry is not None:
        expected.MessageExpiryInterval = expiry
    if alias is not None:
        expected.TopicAlias = alias
    assert publish_properties(expiry, alias).pack() == expected.pack()
    assert packed_size(publish_properties(expiry, alias)) == len(expected.pack())
