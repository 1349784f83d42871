"""Packed blocks: exact, never longer than plain ones, near the information bound, bounded if hostile."""

import math
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.protocol import limits
from common.protocol.codec import CodecError, check_ids, decode_to_worker, encode
from common.protocol.codec.keys import DraftKey
from common.protocol.codec.mixed_radix import DigitReader, DigitWriter
from common.protocol.codec.packed_block import AIMED_NUMBER_IDS, pack_block, unpack_block
from common.protocol.codec.strict_cbor import dumps, loads
from common.protocol.messages import Draft, DraftToken
from common.sampling.distribution import LATTICE_TOTALS, Lattice
from tests.support.narrowing import expect
from tests.support.wire_messages import drafts, drawn, lattices, same, typical_lattice

Block = tuple[DraftToken, ...]


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    """Any block of lattices, with one total or both."""
    vocab_size = draw(st.sampled_from([40, 300, 50257, 2**24]))
    found = draw(st.lists(lattices(vocab_size), min_size=1, max_size=12))
    return tuple(DraftToken(draw(st.sampled_from(each.ids.tolist())), each) for each in found)


def numbers_of(block: Block) -> list[bytes]:
    numbers = pack_block(block)
    assert numbers is not None
    return numbers


def random_block(num_tokens: int, size: int, *, total: int = 256, vocab_size: int = 32000) -> Block:
    """Lattices with a random subset of ids and a random composition of counts, all equally likely."""
    rng = np.random.default_rng(size)
    tokens: list[DraftToken] = []
    for _ in range(num_tokens):
        ids = rng.choice(vocab_size, size, replace=False)
        cuts = np.sort(rng.choice(total - 1, size - 1, replace=False)) + 1
        counts = np.diff([0, *cuts, total])
        order = np.lexsort((ids, -counts))
        tokens.append(drawn(Lattice(ids[order], counts[order])))
    return tuple(tokens)


# -- the law -------------------------------------------------------------------------------------------


@given(blocks())
@settings(deadline=None)
def test_every_block_of_lattices_comes_back_as_it_was(block: Block) -> None:
    assert same(tuple(unpack_block(numbers_of(block))), block)


@given(drafts())
@settings(deadline=None)
def test_packing_is_never_longer_than_the_plain_form(draft: Draft) -> None:
    assert len(encode(draft)) <= len(encode(draft, may_pack=False))


@given(blocks())
@settings(deadline=None)
def test_a_packed_block_is_never_longer_than_a_plain_one(block: Block) -> None:
    draft = Draft(7, 2, 40, (1, 2, 3), block, check=99)
    assert DraftKey.PACKED in loads(encode(draft))
    assert len(encode(draft)) < len(encode(draft, may_pack=False))
    assert same(decode_to_worker(encode(draft)), decode_to_worker(encode(draft, may_pack=False)))


@given(st.lists(st.integers(0, 300), max_size=70), st.integers(0, 50))
def test_ascending_integers_come_back_as_they_were(values: list[int], room: int) -> None:
    values.sort()
    top = max(values, default=0) + room
    writer = DigitWriter()
    writer.put_ascending(values, top)
    writer.put_gamma(len(values) + 1)
    reader = DigitReader(writer.number())
    assert reader.get_ascending(len(values), top) == values
    assert reader.get_gamma(71) == len(values) + 1
    reader.finish()


def test_the_documented_example_is_packed_digit_by_digit_as_documented() -> None:
    block = (
        DraftToken(9, Lattice(np.array([7, 9, 30]), np.array([200, 50, 6]))),
        DraftToken(4, Lattice(np.array([4]), np.array([256]))),
    )
    digits = [(1, 2), (0, 2), (0, 2)]  # two tokens
    digits += [(0, 2), (1, 21), (15, 16)]  # the total is 256, ids are below (15 + 1) * 2^1
    digits += [(1, 2), (0, 2), (1, 2)]  # three ids: 7, 9, 30, without their ranks 7, 8, 28
    digits += [(8, 30), (7, 9), (20, 22)]
    digits += [(248, 254), (199, 249)]  # sums of counts: 200, 250, without their ranks 199, 248
    digits += [(1, 3)]  # the second id was drawn
    digits += [(0, 2), (4, 32)]  # one id: 4
    expected = 0
    for digit, radix in reversed(digits):
        expected = expected * radix + digit
    (number,) = numbers_of(block)
    assert int.from_bytes(number, "little") == expected
    assert number.hex() == "c14c902c2d7b01"
    assert number.hex() in (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()


@pytest.mark.parametrize("size", [1, 8, 30, 100, 300])
def test_random_blocks_come_close_to_the_information_bound(size: int) -> None:
    total = 256 if size < 256 else 65536
    block = random_block(4, size, total=total)
    bound = math.log2(math.comb(32000, size) * math.comb(total - 1, size - 1) * size) / 8
    packed = sum(len(number) for number in numbers_of(block)) / len(block)
    assert bound - 1 < packed < 1.07 * bound + 1.5


# -- what is packed, and what is not -------------------------------------------------------------------


def test_a_block_with_another_form_travels_plain() -> None:
    assert pack_block((drawn(typical_lattice(8)), DraftToken(5))) is None
    assert pack_block(()) is None


def test_a_block_beyond_the_limits_travels_plain_and_comes_back() -> None:
    large = drawn(typical_lattice(limits.MAX_NUMBER_IDS + 1, total=65536))
    many = (drawn(typical_lattice(40)),) * (limits.MAX_PACKED_IDS // 40 + 1)
    for block in ((large,), many):
        draft = Draft(7, 2, 40, (), block, check=99)
        assert DraftKey.PACKED not in loads(encode(draft))
        assert same(decode_to_worker(encode(draft)), draft)


@pytest.mark.parametrize("total", LATTICE_TOTALS)
def test_the_largest_packed_block_comes_back(total: int) -> None:
    size = min(limits.MAX_NUMBER_IDS, total)
    block = random_block(limits.MAX_PACKED_IDS // size, size, total=total, vocab_size=2**24)
    assert same(tuple(unpack_block(numbers_of(block))), block)


def test_a_long_block_is_several_numbers_of_which_none_is_long() -> None:
    numbers = numbers_of(random_block(40, 30))
    assert max(map(len, numbers)) <= AIMED_NUMBER_IDS * 3
    assert len(numbers) == 10


def test_a_block_may_come_in_one_number_for_each_of_64_tokens() -> None:
    block = random_block(limits.MAX_BLOCK_TOKENS, 2)
    numbers = [number for one in block for number in numbers_of((one,))]
    assert expect(Draft, decode_to_worker(packed_draft(*numbers))).block[-1].token == block[-1].token


def test_three_bytes_an_id_are_spent_on_the_context_alone() -> None:
    block = (drawn(typical_lattice(16, vocab_size=151936)),)
    assert DraftKey.ID_BYTES not in loads(encode(Draft(7, 2, 40, (1, 2, 3), block, check=99)))


# -- hostile numbers -----------------------------------------------------------------------------------


def packed_draft(*numbers: bytes) -> bytes:
    fields = loads(encode(Draft(7, 2, 40, (1, 2, 3), (drawn(typical_lattice(4)),), check=99)))
    return dumps(fields | {DraftKey.PACKED: list(numbers)})


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4))
@settings(deadline=None)
def test_arbitrary_numbers_give_a_message_that_can_be_sent_or_a_codec_error(numbers: list[bytes]) -> None:
    with suppress(CodecError):
        draft = decode_to_worker(packed_draft(*numbers))
        assert isinstance(draft, Draft)
        assert same(decode_to_worker(encode(draft)), draft)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (b"\x00", "ends in a zero byte"),
        (b"\xff" * 20, "count of more than 64"),
        (b"\x00" * 400 + b"\x01", "more than its distributions"),
        (b"\x01" * (limits.MAX_NUMBER_BYTES + 1), "2049 bytes, more than 2048"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(number: bytes, sentence: str) -> None:
    with pytest.raises(CodecError, match=sentence) as caught:
        decode_to_worker(packed_draft(number))
    assert caught.value.n == 7


def test_more_ids_or_tokens_than_allowed_are_refused() -> None:
    ids = numbers_of(random_block(1, 200))[0]
    with pytest.raises(CodecError, match="at most 64 tokens and 2048 ids"):
        decode_to_worker(packed_draft(*[ids] * (limits.MAX_PACKED_IDS // 200 + 1)))
    tokens = numbers_of(random_block(33, 1))[0]
    with pytest.raises(CodecError, match="at most 64 tokens and 2048 ids"):
        decode_to_worker(packed_draft(tokens, tokens))


def test_an_id_outside_the_vocabulary_is_refused_in_a_packed_block() -> None:
    message = Draft(7, 2, 40, (), (drawn(typical_lattice(16)),), check=99)
    draft = decode_to_worker(encode(message))
    assert isinstance(draft, Draft)
    largest = max(int(each) for each in expect(Lattice, message.block[0].distribution).ids)
    with pytest.raises(CodecError, match=f"token id {largest} is outside"):
        check_ids(draft, largest)


def test_numbers_that_unfold_to_the_most_work_cost_little_time() -> None:
    dense = Lattice(np.arange(512), np.full(512, 128))
    rng = np.random.default_rng(0)
    worst = [rng.bytes(limits.MAX_NUMBER_BYTES - 1) + b"\x01"] * 64
    unfolding = numbers_of((drawn(dense),)) * (limits.MAX_PACKED_IDS // 512)
    for numbers in (worst, unfolding):
        began = time.process_time()
        with suppress(CodecError):
            decode_to_worker(packed_draft(*numbers))
        assert time.process_time() - began < 1.0
