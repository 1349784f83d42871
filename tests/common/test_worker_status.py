"""A worker's status as bytes: what is read, what is refused, and what an offline worker shows."""

import dataclasses
import json

import pytest

from common.protocol.worker_status import State, Status, StatusError, read_status

ONLINE = Status(State.ONLINE, "demo", "large", "1.0", 2, 1, 1.5, 30.25, 61.0)


def test_a_status_survives_its_own_bytes_and_fields_of_a_later_release() -> None:
    assert read_status(ONLINE.payload()) == ONLINE
    assert read_status(json.dumps({**json.loads(ONLINE.payload()), "gpu": 1}).encode()) == ONLINE


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b"{}",
        b"[" * 100_000,
        ONLINE.payload().replace(b"online", b"on"),
        ONLINE.payload().replace(b"61.0", b"NaN"),
        ONLINE.payload().replace(b"61.0", b'"61"'),
        ONLINE.payload().replace(b"30.25", b"1e999"),
    ],
)
def test_bytes_that_are_no_status_are_refused(payload: bytes) -> None:
    with pytest.raises(StatusError):
        read_status(payload)


def test_a_status_cannot_play_with_the_terminal() -> None:
    hostile = json.dumps({**json.loads(ONLINE.payload()), "model": "\x1b[2Jgone\n"}).encode()
    assert read_status(hostile).model == "?[2Jgone?"


def test_the_numbers_of_an_offline_worker_are_0() -> None:
    fields = dataclasses.astuple(Status(State.OFFLINE, "demo", "large", "1.0"))
    assert {value for value in fields if isinstance(value, int | float)} == {0}
