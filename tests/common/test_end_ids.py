"""End tokens behind the context probabilities of an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.protocol.codec import decode_to_device, encode
from common.protocol.end_ids import split_end_ids, with_end_ids
from common.protocol.messages import Correction
from tests.support.narrowing import expect

IDS = st.frozensets(st.integers(0, 2**24 - 1), max_size=20)


@given(codes=st.binary(max_size=256), ids=IDS)
def test_what_is_joined_comes_apart(codes: bytes, ids: frozenset[int]) -> None:
    correction = Correction(3, 0, 7, "w0", context_codes=with_end_ids(codes, ids))
    arrived = expect(Correction, decode_to_device(encode(correction)))
    assert split_end_ids(arrived.context_codes, len(codes)) == (codes, ids)


@given(codes=st.binary(max_size=256))
def test_an_answer_of_an_older_worker_lists_none(codes: bytes) -> None:
    assert split_end_ids(codes, len(codes)) == (codes, frozenset())


@given(codes=st.binary(max_size=256), ids=IDS.filter(bool))
def test_an_older_device_sees_that_the_length_is_wrong(codes: bytes, ids: frozenset[int]) -> None:
    assert len(with_end_ids(codes, ids)) != len(codes)


@pytest.mark.parametrize("num_codes", [0, 1, 3, 4, 6])
def test_a_wrong_length_is_ignored_as_a_whole(num_codes: int) -> None:
    assert split_end_ids(bytes(5), num_codes) == (b"", frozenset())


def test_ids_that_no_message_can_hold_are_left_out() -> None:
    assert with_end_ids(b"\x05", [9, -1, 2**24, 2]) == bytes([5, 2, 0, 0, 9, 0, 0])
