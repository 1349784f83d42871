"""Which corrections fit a draft in flight, and what is sent of it."""

import pytest

from common.protocol.checksum import prefix_check
from common.protocol.messages import Correction, DraftToken
from edge_agent.session.in_flight import InFlight
from tests.support.fakes import VOCAB_SIZE, opening

BLOCK = (DraftToken(4), DraftToken(5))


def record(*, bonus: int = 0, next_index: int = 0, base: int = 2) -> InFlight:
    return InFlight(
        n=7,
        epoch=1,
        base=base,
        start=5,
        block=BLOCK,
        bonus=bonus,
        num_context_probs=3,
        next_index=next_index,
    )


@pytest.mark.parametrize(
    ("num_accepted", "token", "bonus", "fits"),
    [
        (0, 1, 0, True),
        (1, 1, 0, True),
        (0, 0, 0, True),
        (1, VOCAB_SIZE - 1, 0, True),
        (1, VOCAB_SIZE, 0, False),
        (1, None, 0, False),
        (2, None, 0, True),
        (2, 1, 0, False),
        (2, 1, 1, True),
        (2, VOCAB_SIZE, 1, False),
        (2, None, 1, False),
        (3, None, 0, False),
        (3, 1, 1, False),
    ],
)
def test_a_correction_fits_when_its_token_is_there_exactly_if_it_is_needed(
    num_accepted: int, token: int | None, bonus: int, fits: bool
) -> None:
    assert record(bonus=bonus).fits(Correction(7, num_accepted, token, "w"), VOCAB_SIZE) is fits


def test_only_the_next_token_of_a_stream_fits() -> None:
    stream = record(bonus=9, next_index=3)
    found = [index for index in range(9) if stream.fits(Correction(7, 2, 1, "w", index), VOCAB_SIZE)]
    assert found == [3]
    assert [record(bonus=bonus).is_stream for bonus in (0, 1, 2)] == [False, False, True]


def test_a_draft_brings_what_follows_its_base_and_the_check_of_what_comes_before() -> None:
    tokens = [9, 8, 7, 6, 5, 4, 5, 1]
    draft = record(bonus=2).message(tokens, opening(), whole=False)
    assert (draft.n, draft.epoch, draft.base, draft.context) == (7, 1, 2, (7, 6, 5))
    assert (draft.block, draft.bonus, draft.num_context_probs) == (BLOCK, 2, 3)
    assert (draft.check, draft.opening) == (prefix_check([9, 8]), None)


@pytest.mark.parametrize(("base", "whole"), [(2, True), (0, False), (0, True)])
def test_a_whole_draft_brings_everything_before_its_block_and_the_opening(base: int, whole: bool) -> None:
    draft = record(base=base).message([9, 8, 7, 6, 5, 4, 5], opening(), whole=whole)
    assert (draft.base, draft.context, draft.check, draft.opening) == (0, (9, 8, 7, 6, 5), 0, opening())
