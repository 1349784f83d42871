"""What a broker refuses, and what it does not take: every code and limit has its right reaction."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from common.link import Delivery, Link, LinkError, LinkSettings, Publish
from common.link.limits import BrokerLimits
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.errors import BrokerError, GenerationError
from evaluation.local.broker import LocalBroker
from tests.support.scripted_broker import CONNECT, PUBLISH, Script, scripted_broker
from tests.support.small_models import FolderOf

PATIENCE = 20.0


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario

    asyncio.run(bounded())


# -- one message ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "delivery"),
    [
        (0x00, Delivery.SENT),
        (0x10, Delivery.NO_SUBSCRIBERS),
        (0x80, Delivery.BUSY),
        (0x83, Delivery.BUSY),
        (0x87, Delivery.REFUSED),
        (0x90, Delivery.INVALID),
        (0x91, Delivery.BUSY),
        (0x97, Delivery.BUSY),
        (0x99, Delivery.INVALID),
    ],
)
def test_every_puback_code_has_its_meaning(code: int, delivery: Delivery) -> None:
    async def scenario() -> None:
        async with scripted_broker(Script(puback=[code])) as broker, Link(LinkSettings(broker.url)) as link:
            assert await link.send("a", b"x", qos=1) is delivery

    run(scenario())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x81, "invalid"),
        (0x82, "invalid"),
        (0x83, "fault of its own"),
        (0x87, "access rules"),
        (0x89, "overloaded"),
        (0x8B, "shutting down"),
        (0x8D, "keepalive"),
        (0x8E, "another client connected with the same client id"),
        (0x90, "topic"),
        (0x93, "more messages at once"),
        (0x94, "alias"),
        (0x95, "too large"),
        (0x96, "too fast"),
        (0x97, "quota"),
        (0x98, "administrator"),
        (0x9A, "no retained messages"),
        (0x9B, "QoS"),
        (0x9C, "another server"),
        (0x9D, "another server"),
        (0x9E, "no shared subscriptions"),
        (0x9F, "connections too fast"),
        (0xA0, "longest time"),
        (0xA2, "no wildcard subscriptions"),
    ],
)
def test_every_disconnect_code_is_called_what_it_is_and_the_link_goes_on(
    code: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with (
            scripted_broker(Script(disconnect=code)) as broker,
            Link(LinkSettings(broker.url)) as link,
        ):
            assert await link.send("a", b"x", qos=1) is Delivery.DROPPED
            while link.statistics.num_connects < 2 or not link.connected:
                await asyncio.sleep(0.01)
            assert await link.send("a", b"x", qos=1) is Delivery.SENT

    run(scenario())
    lost = next(message for message in caplog.messages if message.startswith("lost the broker"))
    assert words in lost
    assert ("may have the same client id" in lost) == (code == 0x8E)


# -- connecting and subscribing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x80, "refused the connection"),
        (0x81, "refused the connection"),
        (0x84, "does not speak MQTT 5"),
        (0x85, "client id"),
        (0x86, "user name or password"),
        (0x87, "user name or password"),
        (0x8A, "banned"),
        (0x95, "smaller packets"),
        (0x9C, "another server"),
        (0x9D, "another server"),
    ],
)
def test_a_refusal_for_good_ends_the_first_connect_at_once(code: int, words: str) -> None:
    async def scenario() -> None:
        async with scripted_broker(Script(connack=[code])) as broker:
            with pytest.raises(LinkError, match=words):
                async with Link(LinkSettings(broker.url)):
                    pass
            assert broker.num(CONNECT) == 1

    run(scenario())


@pytest.mark.parametrize("code", [0x83, 0x88, 0x89, 0x97, 0x9F])
def test_a_refusal_for_now_is_tried_again(code: int) -> None:
    async def scenario() -> None:
        async with scripted_broker(Script(connack=[code, code, 0])) as broker:
            async with Link(LinkSettings(broker.url)) as link:
                assert link.connected
            assert broker.num(CONNECT) == 3

    run(scenario())


@pytest.mark.parametrize("code", [0x8B, 0x8D, 0x98, 0xA0])
def test_a_connection_that_ends_before_it_is_used_is_tried_again(code: int) -> None:
    """A machine that is too busy to speak within the keepalive, for example while it loads a model."""

    async def scenario() -> None:
        async with (
            scripted_broker(Script(end=[code])) as broker,
            Link(LinkSettings(broker.url), subscriptions=["a"]) as link,
        ):
            assert link.connected
            assert broker.num(CONNECT) == 2

    run(scenario())


@pytest.mark.parametrize(("code", "words"), [(0x8D, "within the keepalive"), (0x8E, "same client id")])
def test_a_connection_that_keeps_ending_is_explained(code: int, words: str) -> None:
    async def scenario() -> None:
        async with scripted_broker(Script(end=[code] * 99)) as broker:
            with pytest.raises(LinkError, match=words):
                async with Link(LinkSettings(broker.url), subscriptions=["a"], patience=0.5):
                    pass

    run(scenario())


@pytest.mark.parametrize("code", [0x83, 0x91, 0x97])
def test_a_subscription_that_is_refused_for_now_is_tried_again(code: int) -> None:
    async def scenario() -> None:
        async with (
            scripted_broker(Script(suback=[code, 1])) as broker,
            Link(LinkSettings(broker.url), subscriptions=["a"]) as link,
        ):
            assert link.connected

    run(scenario())


def test_trying_again_ends_with_the_patience() -> None:
    async def scenario() -> None:
        async with scripted_broker(Script(connack=[0x97])) as broker:
            with pytest.raises(LinkError, match="overloaded or unavailable"):
                async with Link(LinkSettings(broker.url), patience=1.0):
                    pass
            assert broker.num(CONNECT) > 1

    run(scenario())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x80, "see the log"),
        (0x87, "access rules"),
        (0x8F, "`root`"),
        (0x9E, "mosquitto"),
        (0xA2, "mosquitto"),
    ],
)
def test_a_subscription_that_is_refused_for_good_is_one_sentence(code: int, words: str) -> None:
    async def scenario() -> None:
        async with scripted_broker(Script(suback=[code])) as broker:
            with pytest.raises(LinkError, match=words) as caught:
                async with Link(LinkSettings(broker.url), subscriptions=["a"]):
                    pass
            assert ("access rules" in str(caught.value)) == (code == 0x87)

    run(scenario())


@pytest.mark.parametrize(
    ("properties", "subscription", "what"),
    [(b"\x2a\0", "$share/demo/a", "shared subscriptions"), (b"\x28\0", "a/+", "wildcard subscriptions")],
)
def test_a_broker_without_what_is_needed_is_refused(properties: bytes, subscription: str, what: str) -> None:
    async def scenario() -> None:
        async with scripted_broker(Script(properties=properties)) as broker:
            with pytest.raises(LinkError, match=f"has no {what}"):
                async with Link(LinkSettings(broker.url), subscriptions=[subscription]):
                    pass

    run(scenario())


def test_no_more_messages_are_under_way_than_the_broker_takes() -> None:
    async def scenario() -> None:
        script = Script(properties=b"\x21\0\2", puback=[None])
        async with scripted_broker(script) as broker, Link(LinkSettings(broker.url)) as link:
            tasks = [asyncio.create_task(link.send("a", b"x", qos=1)) for _ in range(6)]
            while broker.num(PUBLISH) < 2:
                await asyncio.sleep(0.01)
            await link.send("a", b"later")
            while broker.num(PUBLISH) < 3:
                await asyncio.sleep(0.01)
            assert [one[0] & 6 for one in broker.received if one[0] >> 4 == PUBLISH] == [2, 2, 0]
            for task in tasks:
                task.cancel()

    run(scenario())


# -- limits of a real broker ----------------------------------------------------------------------------


def test_a_broker_without_qos_1_and_retained_messages_is_used_without_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(broker: LocalBroker) -> None:
        gone = Publish("status", b"gone")
        async with Link(LinkSettings(broker.url), subscriptions=["a", "status"]) as link:
            async with Link(LinkSettings(broker.url), will=gone) as other:
                assert await other.send("a", b"x", qos=1, retain=True) is Delivery.SENT
                assert (await link.receive()).payload == b"x"
            assert (await link.receive()).payload == b"gone"
            assert link.statistics.num_connects == 1

    with LocalBroker(tmp_path, settings=["max_qos 0", "retain_available false"]) as broker:
        run(scenario(broker))
    assert "keeps no retained messages" in caplog.text


def test_a_message_that_the_broker_does_not_take_is_said_with_both_sizes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(broker: LocalBroker) -> None:
        async with Link(LinkSettings(broker.url), subscriptions=["a"]) as link:
            for qos in (0, 1):
                fitting = b"x" * (
                    200 - 8
                )  # of the packet, 8 bytes are not payload: 6 and the alias or the mid
                while (excess := link.excess("a", fitting, qos=qos)) is not None:
                    fitting = fitting[:-1]
                assert await link.send("a", fitting, qos=qos) is Delivery.SENT
                assert (await link.receive()).payload == fitting
                assert await link.send("a", bytes(1000), qos=qos) is Delivery.TOO_LARGE
                excess = link.excess("a", bytes(1000), qos=qos)
                assert excess is not None
                assert "takes at most 200 bytes" in excess
                assert "a message of 10" in excess
            assert link.statistics.num_connects == 1
            assert link.statistics.num_dropped_up == 2

    text = (Path(__file__).parents[2] / "mosquitto" / "development.conf").read_text()
    conf = tmp_path / "small.conf"
    conf.write_text(text.replace("max_packet_size 590848", "max_packet_size 200"))
    with LocalBroker(tmp_path, conf=conf) as broker:
        run(scenario(broker))
    assert "but the broker takes at most 200 bytes" in caplog.text


@pytest.mark.parametrize("code", [0x9A, 0x9B])
def test_limits_that_a_broker_shows_only_by_a_disconnect_are_kept_from_then_on(code: int) -> None:
    known = BrokerLimits().without(code)
    kept = BrokerLimits.of(object()).both(known).fit(Publish("a", b"x"))
    assert (kept.qos, kept.retain) == ((1, False) if code == 0x9A else (0, True))


@pytest.mark.parametrize("code", [0x9A, 0x9B])
def test_a_last_will_that_the_broker_does_not_take_is_made_to_fit(code: int) -> None:
    async def scenario() -> None:
        async with (
            scripted_broker(Script(connack=[code, 0])) as broker,
            Link(LinkSettings(broker.url), will=Publish("status", b"gone")) as link,
        ):
            assert link.connected
            flags = [one[one.index(b"MQTT\5") + 5] for one in broker.received if one[0] >> 4 == CONNECT]
            assert [flag & 0x38 for flag in flags] == [0x28, 0x08 if code == 0x9A else 0x20]

    run(scenario())


# -- an agent -------------------------------------------------------------------------------------------


def config_for(url: str, draft_folder: FolderOf, **changes: Any) -> AgentConfig:
    return AgentConfig(broker=url, model=str(draft_folder("llama")), max_tokens=4, seed=1, **changes)


async def outcome(config: AgentConfig, prompt: str = "turn on the light") -> str | None:
    async with EdgeAgent.open(config) as agent:
        generation = agent.generate(prompt)
        async for _ in generation:
            pass
        failure = generation.session.failure
        return agent.explain(failure) if failure else None


@pytest.mark.parametrize("code", [0x80, 0x83, 0x97])
def test_an_agent_asks_again_until_the_cloud_timeout_where_the_broker_is_busy(
    code: int, draft_folder: FolderOf
) -> None:
    async def scenario() -> None:
        async with scripted_broker(Script(puback=[code])) as broker:
            failure = await outcome(config_for(broker.url, draft_folder, cloud_timeout=3.0))
            assert failure is not None
            assert "no worker answered for 3 s" in failure
            assert "takes no more messages for now" in failure
            assert "access" not in failure
            assert broker.num(PUBLISH) > 1

    run(scenario())


@pytest.mark.parametrize(("code", "words"), [(0x87, "access rights"), (0x90, "`root`"), (0x99, "`root`")])
def test_an_agent_ends_at_once_where_asking_again_is_useless(
    code: int, words: str, draft_folder: FolderOf
) -> None:
    async def scenario() -> None:
        async with scripted_broker(Script(puback=[code])) as broker:
            failure = await outcome(config_for(broker.url, draft_folder, cloud_timeout=1000.0))
            assert failure is not None
            assert words in failure

    run(scenario())


def test_an_agent_says_at_once_that_a_draft_is_larger_than_the_broker_takes(draft_folder: FolderOf) -> None:
    async def scenario() -> None:
        async with scripted_broker(Script(properties=b"\x27\0\0\0\x96")) as broker:
            config = config_for(broker.url, draft_folder, cloud_timeout=1000.0)
            with pytest.raises(GenerationError, match=r"of \d+ bytes.*at most 150 bytes"):
                await outcome(config, "turn on the light " * 8)

    run(scenario())


def test_an_agent_waits_for_a_busy_broker_until_the_cloud_timeout(draft_folder: FolderOf) -> None:
    async def scenario() -> None:
        async with scripted_broker(Script(connack=[0x97])) as broker:
            with pytest.raises(BrokerError, match="overloaded"):
                await outcome(config_for(broker.url, draft_folder, cloud_timeout=1.5))
            assert broker.num(CONNECT) > 1

    run(scenario())
