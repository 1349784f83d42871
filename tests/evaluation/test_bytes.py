"""The byte table: its parts are the real packet, and the command writes its page."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from common.link.packets import publish_size
from common.link.properties import packed_size, publish_properties
from common.protocol.codec import encode
from common.protocol.messages import DraftToken
from common.sampling.distribution import Lattice
from evaluation.__main__ import main
from evaluation.bytes.counting import EXPIRY, bound_of, count, message
from evaluation.bytes.tokens import anything, blocks, spread, zipf
from tests.support.narrowing import expect


def made(num: int) -> list[DraftToken]:
    rng = np.random.default_rng(1)
    return [zipf(1.5, max_ids=30, total=256, vocab_size=32000, rng=rng) for _ in range(num)]


@pytest.mark.parametrize("size", [1, 8])
def test_the_parts_add_up_to_the_packets_that_are_sent(size: int) -> None:
    sent = blocks(made(16), size)
    properties = packed_size(publish_properties(EXPIRY, 1))
    packets = [publish_size("", encode(message(block)), properties, qos=0) for block in sent]
    plain = [publish_size("", encode(message(block), may_pack=False), properties, qos=0) for block in sent]
    counted = count(sent, 32000)
    assert counted.total_packed == pytest.approx(sum(packets) / 16)
    assert counted.total_plain == pytest.approx(sum(plain) / 16)
    assert counted.bound < counted.packed < counted.plain


def test_the_bound_counts_every_message_once() -> None:
    """All lattices of 2 ids out of 4 with counts that sum to 5, and which id was drawn, by listing them."""
    messages = {
        (ids, first, drawn)
        for ids in itertools.combinations(range(4), 2)
        for first in range(1, 5)
        for drawn in ids
    }
    assert 8 * bound_of(2, 5, 4) == pytest.approx(np.log2(len(messages)))


def test_the_papers_example_is_59_bytes() -> None:
    assert bound_of(30, 256, 32000) - np.log2(30) / 8 == pytest.approx(58.5, abs=0.1)


def test_made_tokens_are_drawn_from_their_lattices() -> None:
    rng = np.random.default_rng(2)
    tokens = [anything(12, total=256, vocab_size=1000, rng=rng), *made(3)]
    for token in [*tokens, *(spread(each, 5000, rng) for each in tokens)]:
        lattice = expect(Lattice, token.distribution)
        assert lattice.prob(token.token) > 0
        assert lattice.total == 256


def test_the_command_writes_its_page_and_leaves_prose_alone(tmp_path: Path) -> None:
    page = tmp_path / "bytes.md"
    page.write_text("# Title\n\n<!-- begin bytes -->\n<!-- end bytes -->\n\nProse.\n")
    flags = ["--commands", "2", "--num", "3", "--out", str(tmp_path), "--cache", str(tmp_path / "cache")]
    assert main(["bytes", *flags]) == 0
    text = page.read_text()
    assert text.startswith("# Title\n")
    assert text.endswith("\n\nProse.\n")
    assert "| pair, all tokens, blocks of 8 |" in text
    assert (tmp_path / "bytes.svg").exists()
    assert len((tmp_path / "bytes.csv").read_text().splitlines()) == 1 + 7


@pytest.mark.parametrize("flags", [["--block", "65"], ["--max-ids", "0"], ["--num", "0"]])
def test_numbers_that_cannot_be_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bytes", *flags]) == 2
    assert "--block must be 1 to 64" in capsys.readouterr().err
