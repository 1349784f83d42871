"""The checks of a long sequence's prefixes: the same numbers, without reading it again each time."""

from collections.abc import Sequence
from typing import overload

from hypothesis import given
from hypothesis import strategies as st

from cloud_worker.session.prefix_checks import STEP, PrefixChecks
from cloud_worker.session.session import CloudSession, Target
from common.protocol.checksum import prefix_check
from common.protocol.messages import Draft, DraftToken, Opening, Reason, Refusal
from common.sampling.distribution import Sampling
from tests.support.narrowing import expect

LONG = 131_072


class CountedTokens(Sequence[int]):
    """Tokens that count how many of them are read."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens, self.num_read = tokens, 0

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            self.num_read += len(self.tokens[index])
        return self.tokens[index]


@given(
    st.lists(
        st.tuples(st.sampled_from(["extend", "cut", "check"]), st.integers(0, 3 * STEP), st.integers(0, 9))
    )
)
def test_any_growth_and_rewinding_gives_the_check_of_the_whole_prefix(
    events: list[tuple[str, int, int]],
) -> None:
    tokens: list[int] = []
    checks = PrefixChecks()
    for event, number, token in events:
        if event == "extend":
            tokens += [token] * number
        elif event == "cut":
            del tokens[number:]
            checks.cut(len(tokens))
        else:
            length = min(number, len(tokens))
            assert checks.at(tokens, length) == prefix_check(tokens[:length])
    assert checks.at(tokens, len(tokens)) == prefix_check(tokens)


def test_a_hundred_checks_of_a_long_sequence_read_it_once() -> None:
    tokens, checks = CountedTokens(list(range(LONG))), PrefixChecks()
    for number in range(100):
        checks.at(tokens, LONG - 1 - number)
    assert tokens.num_read < LONG + 100 * STEP


def test_a_draft_with_a_wrong_check_is_asked_for_its_context_wherever_it_differs() -> None:
    session = CloudSession(Target("w0", b"tokenize", 50_000, LONG + 64))
    opening = Opening(b"tokenize", 50_000, Sampling(), 1)
    context = tuple(range(3000))
    session.receive(Draft(0, 0, 0, context, (DraftToken(4),), opening=opening))
    job, _ = session.next_job()
    assert job is not None
    session.abandon("no", retry_after=1.0)
    session.tokens += context
    for n, changed in enumerate((0, 1023, 1024, 2999), start=1):
        other = [*context]
        other[changed] += 1
        session.receive(Draft(n, 0, 3000, (), (DraftToken(4),), check=prefix_check(other)))
        none, (refusal,) = session.next_job()
        assert none is None
        assert expect(Refusal, refusal).reason is Reason.NEED_CONTEXT
    session.receive(Draft(9, 0, 3000, (), (DraftToken(4),), check=prefix_check(context)))
    assert session.next_job()[0] is not None
