"""docs/protocol.md and docs/protocol.cddl agree with the code: keys, every kind of payload, sizes, topics."""

import itertools
import re
from enum import IntEnum
from pathlib import Path
from typing import Any

import cbor2
import pycddl
import pytest
from hypothesis import given, settings
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from common.link.packets import publish_size
from common.protocol import limits
from common.protocol.codec import MAX_PAYLOAD_BYTES, encode
from common.protocol.codec.keys import CorrectionKey, DraftKey, RefusalKey
from common.protocol.messages import Close, Correction, Draft, Reason, Refusal, ToDevice, ToWorker
from common.protocol.topics import Topics
from tests.support.wire_messages import corrections, drafts, examples, refusals

DOCS = Path(__file__).resolve().parents[2] / "docs"
CDDL = (DOCS / "protocol.cddl").read_text()
TEXT = (DOCS / "protocol.md").read_text()
KEYS = {"draft": DraftKey, "correction": CorrectionKey, "refusal": RefusalKey}
KINDS: dict[type[ToWorker | ToDevice], str] = {
    Draft: "draft",
    Close: "close",
    Correction: "correction",
    Refusal: "refusal",
}


def schema_of(rule: str) -> pycddl.Schema:
    """The file's rules with one of them first, because CDDL starts at the first."""
    return pycddl.Schema(f"start = {rule}\n{CDDL}")


SCHEMAS = {kind: schema_of(kind) for kind in KEYS}


def keys_in_cddl(rule: str) -> dict[str, int]:
    body = re.search(rf"^{rule} = {{\n(.*?)^}}", CDDL, re.MULTILINE | re.DOTALL)
    assert body is not None
    return {
        name: int(key) for key, name in re.findall(r"^  (?:\? )?(\d+) => .*; (\w+):", body[1], re.MULTILINE)
    }


@pytest.mark.parametrize("kind", KEYS)
def test_the_schema_has_the_keys_of_the_code(kind: str) -> None:
    keys: type[IntEnum] = KEYS[kind]
    assert keys_in_cddl(kind) == {key.name.lower(): key.value for key in keys}


@pytest.mark.parametrize("name", examples())
def test_the_schema_takes_every_example(name: str) -> None:
    message = examples()[name]
    if isinstance(message, Close):
        assert encode(message) == cbor2.dumps({})
    else:
        SCHEMAS[KINDS[type(message)]].validate_cbor(encode(message))


@given(drafts())
@settings(deadline=None, max_examples=50)
def test_the_schema_takes_every_draft(draft: Draft) -> None:
    SCHEMAS["draft"].validate_cbor(encode(draft))


@given(corrections)
@settings(deadline=None, max_examples=50)
def test_the_schema_takes_every_correction(correction: Correction) -> None:
    SCHEMAS["correction"].validate_cbor(encode(correction))


@given(refusals)
@settings(deadline=None, max_examples=50)
def test_the_schema_takes_every_refusal(refusal: Refusal) -> None:
    SCHEMAS["refusal"].validate_cbor(encode(refusal))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("draft", {}),
        ("draft", {0: -1}),
        ("draft", {0: 0, 6: [["ids", b""]]}),
        ("draft", {0: 0, 10: 4097}),
        ("draft", {0: 0, 12: bytes(7)}),
        ("draft", {0: 0, 19: 0}),
        ("correction", {0: 0}),
        ("correction", {0: 0, 3: "x" * 33}),
        ("refusal", {0: 0, 3: "w"}),
        ("refusal", {3: "w", 7: 7}),
    ],
)
def test_the_schema_refuses_what_the_codec_refuses(kind: str, fields: dict[int, Any]) -> None:
    with pytest.raises(pycddl.ValidationError):
        SCHEMAS[kind].validate_cbor(cbor2.dumps(fields))


def test_the_documented_sizes_are_the_real_ones() -> None:
    documented = {name: int(size.replace(",", "")) for name, size in table("Message", "Bytes")}
    assert documented == {name: len(encode(message)) for name, message in examples().items()}


def test_the_documented_topics_are_the_real_ones() -> None:
    topics = Topics()
    pool, device, session, worker = "POOL", "DEVICE", "SESSION", "WORKER"
    real = [
        (topics.open(pool, device, session), topics.open_filter(pool)),
        (topics.draft(pool, worker, device, session), topics.draft_filter(pool, worker)),
        (topics.correction(device, session), topics.correction_filter(device)),
        (topics.worker(worker), topics.worker_filter()),
        (topics.device(device), "hlm/v1/device/+"),
        (topics.app(device, "NAME"), topics.app_filter(device)),
    ]
    documented = [
        tuple(
            re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), cell.strip("`").replace("...", "NAME"))
            for cell in (row[0], row[2])
        )
        for row in table("Topic", "From")
    ]
    assert documented == real


def test_the_documented_keys_of_a_draft_and_a_correction_are_the_real_ones() -> None:
    for kind, keys in (("Draft", DraftKey), ("Correction", CorrectionKey)):
        rows = table("Key", "Name", after=f"### {kind}")
        assert {int(row[0]): row[1].strip("`") for row in rows} == {
            key.value: key.name.lower() for key in keys
        }
    for key in RefusalKey:
        assert f"{key.value} `{key.name.lower()}`" in TEXT


def test_the_documented_reasons_are_the_real_ones() -> None:
    documented = {int(row[0]): row[1].strip("`") for row in table("Number", "Reason")}
    assert documented == {reason.value: reason.name.lower() for reason in Reason}


def test_the_documented_limits_are_the_real_ones() -> None:
    assert f"{MAX_PAYLOAD_BYTES:,} bytes" in TEXT
    assert f"{MAX_PAYLOAD_BYTES:,} bytes" in CDDL
    assert f"0..{limits.MAX_BONUS_TOKENS}, " in CDDL
    assert f"{limits.MAX_VOCAB_SIZE}," in CDDL
    assert f"{limits.MAX_BLOCK_TOKENS} tokens" in TEXT
    assert (
        f"at most {limits.MAX_NUMBER_BYTES:,} bytes and {limits.MAX_NUMBER_IDS} ids, "
        f"a packed block {limits.MAX_PACKED_IDS:,} ids"
    ) in TEXT
    assert f"bstr .size (0..{limits.MAX_NUMBER_BYTES})" in CDDL


def test_the_development_broker_takes_the_largest_payload_and_a_header() -> None:
    conf = (DOCS.parent / "mosquitto" / "development.conf").read_text()
    assert f"max_packet_size {MAX_PAYLOAD_BYTES + 1024}\n" in conf


def test_the_packet_around_a_payload_is_as_documented() -> None:
    properties = Properties(PacketTypes.PUBLISH)
    properties.MessageExpiryInterval = 30
    properties.TopicAlias = 1
    packed = bytes(properties.pack())
    assert publish_size("", bytes(50), len(packed), qos=0) - 50 == 13
    assert publish_size("topic", bytes(50), len(packed), qos=1) - 50 == 13 + 5 + 2
    assert "a PUBLISH packet takes 13 bytes" in TEXT


def table(*heads: str, after: str = "") -> list[list[str]]:
    """The rows of the first table after `after` whose head begins with these columns."""
    lines = TEXT[TEXT.index(after) :].splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(f"| {' | '.join(heads)} |"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[begin + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
