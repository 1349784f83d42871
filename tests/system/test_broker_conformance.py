"""What we need of a broker: our own has it, and the benchmark that tries it notices what another lacks."""

import re
from pathlib import Path

import pytest

from benchmarks.broker_conformance.catalogue import NEEDS
from benchmarks.broker_conformance.needs import Broker, Need, Weight
from benchmarks.broker_conformance.sharing import reports_an_empty_pool
from common.link.settings import LinkSettings
from evaluation.local.broker import LocalBroker
from evaluation.local.embedded_broker import EmbeddedBroker

PAGE = Path(__file__).parents[2] / "docs" / "brokers.md"
QUICK = {"PUBACK 0x10 for an empty pool", "a member unsubscribes", "our largest payload", "properties arrive"}

needs_iotcore = pytest.mark.skipif(not EmbeddedBroker.is_installed(), reason="iotcore is not installed")


@pytest.mark.parametrize(
    "need",
    [
        pytest.param(need, id=need.name, marks=[] if need.name in QUICK else [pytest.mark.slow])
        for need in NEEDS
    ],
)
def test_mosquitto_has_what_we_need(broker: LocalBroker, need: Need) -> None:
    finding = need.attempt(Broker(LinkSettings(broker.url), "hlm/conformance"))
    assert finding.met is not False, finding.detail


@needs_iotcore
def test_a_broker_that_does_not_report_an_empty_pool_is_noticed() -> None:
    with EmbeddedBroker() as broker:
        finding = reports_an_empty_pool(Broker(LinkSettings(broker.url), "hlm/conformance"))
    assert (finding.met, finding.detail) == (False, "0x00, 0x00, 0x00")


@needs_iotcore
@pytest.mark.slow
def test_the_embedded_broker_has_all_that_must_be_there() -> None:
    with EmbeddedBroker() as broker:
        for need in NEEDS:
            if need.weight is Weight.MUST:
                assert need.attempt(Broker(LinkSettings(broker.url), f"hlm/{need.attempt.__name__}")).met


def test_the_page_has_a_row_for_each_need() -> None:
    rows = re.findall(r"^\| ([^|]+) \| (must|helps|apps) \|.*\| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(need.name, str(need.weight), need.without) for need in NEEDS]
