"""Messages <-> bytes: first the law (round trip, only CodecError), then refusals, then sizes."""

import time
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.protocol.codec import (
    MAX_PAYLOAD_BYTES,
    CodecError,
    check_ids,
    decode_to_device,
    decode_to_worker,
    encode,
)
from common.protocol.codec.keys import DraftKey
from common.protocol.messages import Close, Correction, Draft, DraftToken, Reason, Refusal
from common.sampling.distribution import Dense, Lattice, TopK
from tests.support.wire_messages import (
    OPENING,
    VOCAB_SIZE,
    corrections,
    drafts,
    examples,
    lattice_of,
    refusals,
    same,
)


def decoded(message: Any) -> Any:
    decode = decode_to_worker if isinstance(message, Draft | Close) else decode_to_device
    return decode(encode(message))


def draft_with(**changes: Any) -> Draft:
    return replace(Draft(7, 2, 40, (1, 2, 3), (DraftToken(100, lattice_of(4)),), check=99), **changes)


def altered(message: Any, **changes: Any) -> bytes:
    """The plain payload of a message with some raw fields replaced (k0=...) or removed (k0=None)."""
    fields: dict[Any, Any] = cbor2.loads(encode(message, may_pack=False))
    for name, value in changes.items():
        fields.pop(int(name[1:]), None)
        if value is not None:
            fields[int(name[1:])] = value
    return cbor2.dumps(fields)


# -- the law -------------------------------------------------------------------------------------------


@given(drafts())
@settings(deadline=None)
def test_every_draft_comes_back_as_it_was(draft: Draft) -> None:
    assert same(decoded(draft), draft)


@given(corrections)
def test_every_correction_comes_back_as_it_was(correction: Correction) -> None:
    assert same(decoded(correction), correction)


@given(refusals)
def test_every_refusal_comes_back_as_it_was(refusal: Refusal) -> None:
    assert same(decoded(refusal), refusal)


def test_close_comes_back_as_it_was() -> None:
    assert decoded(Close()) == Close()


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_a_codec_error(payload: bytes) -> None:
    for decode in (decode_to_worker, decode_to_device):
        with suppress(CodecError):
            decode(payload)


any_value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats()
    | st.binary(max_size=9)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 23), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.integers(0, 23) | any_value.filter(lambda v: not isinstance(v, list | dict)), any_value
    )
)
def test_arbitrary_maps_raise_nothing_but_a_codec_error(fields: dict[Any, Any]) -> None:
    payload = cbor2.dumps(fields)
    for decode in (decode_to_worker, decode_to_device):
        with suppress(CodecError):
            decode(payload)


@given(drafts(), st.dictionaries(st.sampled_from(list(DraftKey)), any_value, min_size=1, max_size=3))
@settings(deadline=None)
def test_a_draft_with_wrong_fields_raises_nothing_but_a_codec_error(
    draft: Draft, wrong: dict[int, Any]
) -> None:
    fields: dict[int, Any] = cbor2.loads(encode(draft)) | {int(key): value for key, value in wrong.items()}
    with suppress(CodecError):
        decode_to_worker(cbor2.dumps(fields))


@pytest.mark.parametrize("name", [name for name in examples() if not name.startswith("HLM")])
def test_every_truncation_is_refused(name: str) -> None:
    message = examples()[name]
    decode = decode_to_worker if isinstance(message, Draft | Close) else decode_to_device
    payload = encode(message)
    for length in range(len(payload)):
        with pytest.raises(CodecError):
            decode(payload[:length])


@pytest.mark.parametrize("name", [name for name in examples() if not name.startswith("HLM")])
def test_a_flipped_bit_gives_a_message_or_a_codec_error(name: str) -> None:
    message = examples()[name]
    decode = decode_to_worker if isinstance(message, Draft | Close) else decode_to_device
    payload = encode(message)
    for bit in range(8 * len(payload)):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        with suppress(CodecError):
            decode(bytes(flipped))


# -- CBOR that the protocol does not use ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b"", "not a CBOR map"),
        (b"\x80", "not a CBOR map"),
        (b"\xa0\x00", "1 bytes follow"),
        (b"\xa2\x00\x01\x00\x01", "occurs twice"),
        (b"\xa2\x00\x01\x18\x00\x01", "occurs twice"),
        (b"\xa1\xf4\x01", "not an integer"),
        (b"\xa1\xf9\x00\x00\x01", "not an integer"),
        (b"\xa1\x61n\x01", "not an integer"),
        (b"\xbf\x00\x01\xff", "definite length"),
        (b"\xa1\x04\x5f\x41a\xff", "definite length"),
        (b"\xa1\x06\x9f\xff", "definite length"),
        (b"\xa1\x00\xc2\x41\x01", "tag"),
        (b"\xa1\x00\xd8\x23\x61(", "tag"),
        (b"\xa1\x00\xa0", "map within the map"),
        (b"\xa1\x00\xf7", "simple value"),
        (b"\xa1\x03\x61\xff", "not valid CBOR"),
        (b"\xa1\x06\x81\x81\x81\x00", "nested deeper"),
        (b"\xa1\x04\x5b" + b"\xff" * 8, "before it is complete"),
        (b"\xa1\x06\x9b" + b"\xff" * 8, "before it is complete"),
        (b"\xa1\x06\x9a\x00\x01\x00\x00" + bytes(65536), "more than 1024 items"),
        (b"\xa1\x18\x18\x00", "no key 24"),
    ],
)
def test_cbor_outside_the_protocol_is_refused(payload: bytes, sentence: str) -> None:
    with pytest.raises(CodecError, match=sentence):
        decode_to_worker(payload)


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(CodecError, match="1 bytes follow the message"):
        decode_to_worker(encode(draft_with()) + b"\x00")


def test_a_payload_above_the_cap_is_refused_unread() -> None:
    with pytest.raises(CodecError, match="exceeds"):
        decode_to_worker(bytes(MAX_PAYLOAD_BYTES + 1))


@pytest.mark.parametrize(
    "hostile",
    [
        b"\xa1\x06" + b"\x81" * (MAX_PAYLOAD_BYTES - 3) + b"\x00",
        b"\xa1\x06\x9a\x00\x07\xff\xf0" + bytes(0x7FFF0),
        b"\xa1\x04\x5a\x00\x07\xff\xf0" + bytes(0x7FFF0),
        b"\xa1\x06\x82\x40" + b"\x5a\x00\x07\xff\xf0" + bytes(0x7FFF0),
        b"\xa1\x06" + b"\x9b\x7f" + b"\xff" * 7,
    ],
)
def test_a_hostile_payload_costs_little_time_and_memory(hostile: bytes) -> None:
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(CodecError):
        decode_to_worker(hostile)
    duration = time.perf_counter() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert duration < 1.0
    assert peak < 30 * MAX_PAYLOAD_BYTES


# -- fields of a draft ---------------------------------------------------------------------------------

END = b"\x02\x00\x00"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"k0": None}, "n is missing"),
        ({"k0": True}, "n must be an integer"),
        ({"k0": -1}, "n must be an integer"),
        ({"k0": 2**32}, "n must be an integer"),
        ({"k0": 1.0}, "n must be an integer"),
        ({"k1": "2"}, "epoch must be an integer"),
        ({"k2": None}, "opening exactly when"),
        ({"k3": 2**32}, "check must be an integer"),
        ({"k4": "abc"}, "context must be a byte string"),
        ({"k4": b"abc"}, "not a multiple of 2"),
        ({"k5": bytes(2 * 65)}, "more than 64"),
        ({"k5": b"\x00\x00"}, "not among the ids"),
        ({"k6": []}, "array of 1 entries"),
        ({"k6": [[b"", b""], [b"", b""]]}, "array of 1 entries"),
        ({"k6": [b"ab"]}, "2 byte strings"),
        ({"k6": [["ab", b"a"]]}, "2 byte strings"),
        ({"k6": [[b"\x64\x00", b"\xff\x00\x01"]]}, "3 bytes of counts for 1 ids"),
        ({"k6": [[b"\x64\x00", b"\xfe"]]}, "sum to 255, not to 256"),
        ({"k6": [[b"\x64\x00\x64\x00", b"\x7f\x7f"]]}, "occurs twice"),
        ({"k6": [[b"", b"\xff"]]}, "1 to 65536 ids, not 0"),
        ({"k6": [[b"\x64\x00\x65\x00", b"\x0f\xef"]]}, "largest count first"),
        ({"k6": [[b"\x65\x00\x64\x00", b"\x7f\x7f"]]}, "equal counts by ascending id"),
        ({"k7": [b"a"]}, "float16"),
        ({"k7": [b"\x00\x3c" * 101]}, "more than one distribution"),
        ({"k8": [[b"", b""]]}, "array of ids, codes"),
        ({"k8": [[b"", b"", 1]]}, "must be a float"),
        ({"k9": 4}, "id_bytes must be an integer from 2 to 3"),
        ({"k10": 4097}, "bonus must be an integer from 0 to 4096"),
        ({"k11": 4}, "num_context_probs must be an integer from 0 to 3"),
        ({"k13": 5}, "tokenizer is missing"),
        ({"k15": 2}, "version 1"),
        ({"k5": None, "k6": None, "k19": 0}, "array of 1 to 64 byte strings"),
        ({"k5": None, "k6": None, "k19": []}, "array of 1 to 64 byte strings"),
        ({"k5": None, "k6": None, "k19": [b"a", 1]}, "array of 1 to 64 byte strings"),
        ({"k5": None, "k6": None, "k19": [b"a"] * 65}, "array of 1 to 64 byte strings"),
        ({"k19": [b"a"]}, "must not come with a block in the plain form"),
        ({"k19": [b"a"], "k5": None, "k6": None, "k20": []}, "must not come with a block in the plain form"),
        ({"k20": 0}, "array of 1 entries"),
        ({"k20": [[b"", b""]]}, "array of ids, codes"),
        ({"k20": [[b"\x05\x00", b"\x00\x00", 0.5]]}, "2 probabilities for 1 ids"),
        ({"k20": [[b"\x05\x00", b"\x80", 0.5]]}, "more than one distribution"),
        ({"k24": 0}, "no key 24"),
    ],
)
def test_a_draft_with_a_wrong_field_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CodecError, match=sentence) as caught:
        decode_to_worker(altered(draft_with(), **changes))
    assert caught.value.n == (None if "k0" in changes else 7)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"k2": 1}, "opening exactly when"),
        ({"k3": 1}, "check must be 0"),
        ({"k12": bytes(7)}, "tokenizer must have 8 bytes"),
        ({"k13": None}, "vocab_size is missing"),
        ({"k13": 0}, "vocab_size must be"),
        ({"k14": 2**64}, "tag"),
        ({"k23": 0}, "grammar must be an array of 3 or 5 items"),
        ({"k23": [0, "", "e", 1]}, "grammar must be an array of 3 or 5 items"),
        ({"k23": [3, "", "e", 1, END]}, "grammar is of a kind that this worker does not know"),
        ({"k23": [True, "", "e", 1, END]}, "grammar is of a kind"),
        ({"k23": [0, b"", "e", 1, END]}, "a source of at most 65536 bytes"),
        ({"k23": [0, "é" * 32769, "e", 1, END]}, "a source of at most 65536 bytes"),
        ({"k23": [0, "", "", 1, END]}, "name its engine in 1 to 64 characters"),
        ({"k23": [0, "", "e" * 65, 1, END]}, "name its engine in 1 to 64 characters"),
        ({"k23": [0, "", "e", 0, END]}, "the number of tokens of the prompt"),
        ({"k23": [0, "", "e", 1, b""]}, "1 to 64 end tokens"),
        ({"k23": [0, "", "e", 1, END * 65]}, "1 to 64 end tokens"),
        ({"k23": [0, "", "e", 1, b"ab"]}, "2 bytes of token ids"),
        ({"k23": [0, "", "e", 1, b"\xff\xff\xff"]}, "an end token outside the vocabulary"),
        ({"k23": [bytes(15), 1, END]}, "a digest of 16 bytes"),
        ({"k23": [bytes(16), 1, b"\xff\xff\xff"]}, "an end token outside the vocabulary"),
        ({"k14": -1}, "seed must be"),
        ({"k16": float("nan")}, "temperature must be"),
        ({"k16": -0.5}, "temperature must be"),
        ({"k16": 101}, "temperature must be"),
        ({"k16": True}, "temperature must be a number"),
        ({"k17": -1}, "top_k must be"),
        ({"k18": 0.0}, "top_p must be"),
        ({"k18": 1.5}, "top_p must be"),
        ({"k21": -0.1}, "min_p must be"),
        ({"k21": float("nan")}, "min_p must be"),
        ({"k22": 1.1}, "penalties must be an array of 4 numbers"),
        ({"k22": [1.1, 0.0, 0.0]}, "penalties must be an array of 4 numbers"),
        ({"k22": [True, 0.0, 0.0, 0]}, "penalties must be an array of 4 numbers"),
        ({"k22": [0.0, 0.0, 0.0, 0]}, "penalties must begin with"),
        ({"k22": [float("nan"), 0.0, 0.0, 0]}, "penalties must begin with"),
        ({"k22": [1.1, float("inf"), 0.0, 0]}, "penalties must have numbers"),
        ({"k22": [1.1, 0.0, -101, 0]}, "penalties must have numbers"),
        ({"k22": [1.1, 0.0, 0.0, 0.5]}, "penalties must end with"),
        ({"k22": [1.1, 0.0, 0.0, -1]}, "penalties must end with"),
        ({"k4": b"\x2c\x01"}, "token id 300 is outside the vocabulary of 300"),
        ({"k5": b"\x2c\x01", "k6": None}, "token id 300 is outside"),
        ({"k6": [[b"\x64\x00\x2c\x01", b"\x7f\x7f"]]}, "token id 300 is outside"),
        ({"k6": None, "k7": [b"\x00\x3c" * 299]}, "299 weights for a vocabulary of 300"),
    ],
)
def test_an_opening_with_a_wrong_field_is_refused(changes: dict[str, Any], sentence: str) -> None:
    message = draft_with(base=0, check=0, opening=OPENING)
    with pytest.raises(CodecError, match=sentence):
        decode_to_worker(altered(message, **changes))


def test_another_version_is_refused_as_such_and_names_the_draft() -> None:
    message = draft_with(base=0, check=0, opening=replace(OPENING, version=2))
    with pytest.raises(CodecError) as caught:
        decode_to_worker(altered(message, k23="a field of the future"))
    assert (caught.value.reason, caught.value.n) == (Reason.UNSUPPORTED_VERSION, 7)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1.0])
def test_a_dense_distribution_with_a_bad_weight_is_refused(weight: float) -> None:
    weights = np.ones(VOCAB_SIZE, dtype=np.float16)
    weights[3] = weight
    with pytest.raises(CodecError, match="negative or not finite"):
        decoded(draft_with(block=(DraftToken(5, Dense(weights)),)))


def test_a_dense_distribution_that_excludes_its_token_is_refused() -> None:
    weights = np.ones(VOCAB_SIZE, dtype=np.float16)
    weights[5] = 0
    with pytest.raises(CodecError, match="has no weight"):
        decoded(draft_with(block=(DraftToken(5, Dense(weights)),)))
    with pytest.raises(CodecError, match="has no weight"):
        decoded(draft_with(block=(DraftToken(VOCAB_SIZE, Dense(weights)),)))


@pytest.mark.parametrize(
    ("ids", "codes", "draft_prob", "sentence"),
    [
        ([1, 2], [5], 0.5, "1 probabilities for 2 ids"),
        ([1, 1], [50, 50], 0.5, "occurs twice"),
        ([1, 2], [0, 0], 0.5, "sum to more than 1"),
        ([1, 2], [50, 50], 0.0, "above 0 and at most 1"),
        ([1, 2], [50, 50], float("nan"), "above 0 and at most 1"),
        ([1, 2], [50, 50], 1.5, "above 0 and at most 1"),
        ([], [5], 0.5, "1 to 65536 ids"),
    ],
)
def test_a_wrong_top_k_is_refused(ids: list[int], codes: list[int], draft_prob: float, sentence: str) -> None:
    top_k = TopK(np.array(ids, dtype=np.int64), np.array(codes, dtype=np.uint8), draft_prob, True)
    with pytest.raises(CodecError, match=sentence):
        decoded(draft_with(block=(DraftToken(5, top_k),)))


def test_a_top_k_of_version_0_1_0_is_read_as_its_device_wrote_it() -> None:
    message = draft_with(block=(DraftToken(5),))
    read = decode_to_worker(altered(message, k8=[[b"\x05\x00\x06\x00", b"\x0c\x18", 0.5]]))
    assert isinstance(read, Draft)
    sent = read.block[0].distribution
    assert isinstance(sent, TopK)
    assert sent.dense(VOCAB_SIZE)[[5, 6]] == pytest.approx([0.5, 0.25])


def test_a_block_may_mix_both_scales() -> None:
    ids, codes = np.array([5, 6]), np.array([200, 100], np.uint8)
    block = (DraftToken(5, TopK(ids, codes, 0.5)), DraftToken(5, TopK(ids, codes, 0.5, True)), DraftToken(7))
    assert same(decoded(draft_with(block=block)), draft_with(block=block))


def test_ids_outside_a_vocabulary_are_found_after_decoding_too() -> None:
    draft = decoded(draft_with())
    check_ids(draft, 104)
    with pytest.raises(CodecError, match="token id 103 is outside the vocabulary of 103 tokens") as caught:
        check_ids(draft, 103)
    assert caught.value.n == 7


def test_whole_numbers_may_stand_for_floats() -> None:
    message = draft_with(base=0, check=0, opening=OPENING)
    draft = decode_to_worker(altered(message, k16=0, k18=1))
    assert isinstance(draft, Draft)
    assert draft.opening is not None
    assert draft.opening.sampling.greedy
    assert type(draft.opening.sampling.temperature) is float


def test_defaults_may_be_written_out() -> None:
    assert same(decode_to_worker(altered(draft_with(), k10=0, k9=2)), draft_with())


def test_the_dense_distribution_of_the_largest_common_vocabulary_fits() -> None:
    weights = np.ones(262144, dtype=np.float16)
    draft = draft_with(context=tuple(range(65536, 85536)), block=(DraftToken(5, Dense(weights)),))
    assert same(decoded(draft), draft)


@pytest.mark.parametrize(
    "draft",
    [
        draft_with(base=0, check=0),
        draft_with(opening=OPENING),
        draft_with(context=(2**24,)),
        draft_with(block=(DraftToken(1, Lattice(np.array([1, 2]), np.array([5, 6]))),)),
        draft_with(block=(DraftToken(1, Lattice(np.array([1, 2]), np.array([56, 200]))),)),
        draft_with(block=(DraftToken(1, Lattice(np.array([2, 1]), np.array([128, 128]))),)),
        draft_with(block=(DraftToken(1, Lattice(np.array([1, 1]), np.array([200, 56]))),)),
        draft_with(block=(DraftToken(1, Lattice(np.array([1, 2]), np.array([256, 0]))),)),
        draft_with(block=(DraftToken(3, Lattice(np.array([1, 2]), np.array([200, 56]))),)),
        draft_with(block=(DraftToken(-1, Lattice(np.array([-1]), np.array([256]))),)),
        draft_with(block=(DraftToken(2**24, Lattice(np.array([2**24]), np.array([256]))),)),
        draft_with(block=(DraftToken(1, Dense(np.ones(300000, dtype=np.float16))),)),
    ],
)
def test_a_draft_that_cannot_be_sent_is_a_value_error(draft: Draft) -> None:
    with pytest.raises(ValueError, match=r"opening|too large|cannot be sent|exceeds|distinct|not among"):
        encode(draft)


@pytest.mark.parametrize("n", [0, 1, 2**32 - 1])
def test_an_error_names_the_draft_whose_field_is_wrong(n: int) -> None:
    with pytest.raises(CodecError, match="bonus must be") as caught:
        decode_to_worker(altered(draft_with(n=n), k10=4097))
    assert caught.value.n == n


# -- answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"k0": None}, "n is missing"),
        ({"k1": 65}, "num_accepted must be"),
        ({"k2": -1}, "token must be"),
        ({"k2": 2**24}, "token must be"),
        ({"k2": None, "k3": None}, "worker is missing"),
        ({"k3": "a/b"}, "is not a valid name"),
        ({"k3": "+"}, "is not a valid name"),
        ({"k3": "w" * 33}, "at most 32 characters"),
        ({"k4": 4097}, "index must be"),
        ({"k5": "codes"}, "context_codes must be"),
        ({"k6": 1.5}, "compute_tenth_ms must be"),
        ({"k8": "detail"}, "no key 8"),
    ],
)
def test_a_correction_with_a_wrong_field_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CodecError, match=sentence):
        decode_to_device(altered(Correction(7, 1, 5, "w"), **changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"k7": 0}, "reason must be an integer from 1 to 6"),
        ({"k7": 7}, "reason must be an integer from 1 to 6"),
        ({"k3": ""}, "is not a valid name"),
        ({"k8": "x" * 201}, "at most 200 characters"),
        ({"k9": -1}, "have must be"),
        ({"k10": 3_600_001}, "retry_after_ms must be"),
        ({"k1": 1}, "no key 1"),
    ],
)
def test_a_refusal_with_a_wrong_field_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CodecError, match=sentence):
        decode_to_device(altered(Refusal(7, Reason.BUSY, "w"), **changes))


def test_a_long_detail_is_cut_rather_than_lost() -> None:
    assert decoded(Refusal(7, Reason.BAD_REQUEST, "w", "x" * 500)).detail == "x" * 200


# -- sizes ---------------------------------------------------------------------------------------------


def test_a_plain_one_token_draft_is_ids_counts_and_few_bytes_more() -> None:
    draft = Draft(31, 2, 260, (700,), (DraftToken(100, lattice_of(16)),), bonus=1, check=0x9E3779B9)
    assert len(encode(draft, may_pack=False)) - 16 * (2 + 1) <= 35


def test_a_correction_is_short() -> None:
    assert len(encode(Correction(31, 1, 742, "worker-1"))) <= 20


def test_close_is_one_byte() -> None:
    assert len(encode(Close())) == 1


def test_three_bytes_an_id_are_spent_only_where_one_id_needs_them() -> None:
    short, long = draft_with(context=(65535,) * 10), draft_with(context=(65535,) * 9 + (65536,))
    grown = len(encode(long, may_pack=False)) - len(encode(short, may_pack=False))
    assert grown == 10 + 1 + 4 + 2 + 1  # context, block, lattice, key, head


def test_what_no_token_of_the_block_has_is_left_out() -> None:
    assert len(encode(draft_with(block=(DraftToken(100),) * 8))) < 40
