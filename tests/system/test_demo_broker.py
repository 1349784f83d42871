"""The demo where mosquitto is missing: another broker takes its place, and says what it lacks."""

import asyncio
import importlib.util

import pytest

from common.link import Delivery, Link, LinkSettings
from common.protocol.limits import MAX_PAYLOAD_BYTES
from evaluation.demo import broker as demo
from evaluation.local.broker import BrokerError, LocalBroker
from evaluation.local.embedded_broker import EmbeddedBroker

needs_iotcore = pytest.mark.skipif(not EmbeddedBroker.is_installed(), reason="iotcore is not installed")


def test_mosquitto_is_used_where_it_is_installed() -> None:
    assert isinstance(demo.demo_broker(), LocalBroker)


@needs_iotcore
def test_iotcore_takes_its_place_and_one_line_says_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "has_mosquitto", lambda: False)
    with demo.demo_broker() as broker:
        assert broker.program == "iotcore"
        assert asyncio.run(carries_the_largest_payload(broker.url))
    (line,) = capsys.readouterr().err.splitlines()
    assert "mosquitto is missing" in line
    assert "empty pool" in line


async def carries_the_largest_payload(url: str) -> bool:
    payload = bytes(MAX_PAYLOAD_BYTES)
    async with Link(LinkSettings(url), subscriptions=["$share/demo/hlm/v1/demo/open/+/+"]) as link:
        delivery = await link.send("hlm/v1/demo/open/kitchen/s", payload, qos=1)
        return delivery is Delivery.SENT and (await link.receive()).payload == payload


def test_without_either_the_demo_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "has_mosquitto", lambda: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    with pytest.raises(BrokerError, match="pip install iotcore"):
        demo.demo_broker()
