"""Law 3 as a state machine: whatever is lost, repeated, reordered or killed, the text stays the same."""

from functools import cache
from typing import Unpack, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.protocol.grammar import Grammar
from common.protocol.messages import Reason, Refusal
from edge_agent.session.events import LinkEvent
from tests.support.circle import Chosen, Circle
from tests.support.fakes import VOCAB_SIZE
from tests.support.toy_grammar import UNUSED

WORKERS = st.sampled_from(["w0", "w1"])
ALL_CHECKS = cast("list[HealthCheck]", list(HealthCheck))  # an iteration that its metaclass leaves untyped


@cache
def undisturbed(**settings: Unpack[Chosen]) -> tuple[int, ...]:
    circle = Circle(**settings)
    circle.settle()
    return tuple(circle.text)


class BadLink(RuleBasedStateMachine):
    """Hypothesis chooses what the network and the operator do; in the end the link is mended."""

    grammar: Grammar | None = None

    @initialize(
        scheme=st.sampled_from(
            ["lossless", "coupled", "auto", "opportunistic", "u-hlm", "cu-hlm-online", "llm"]
        ),
        seed=st.integers(0, 50),
        temperature=st.sampled_from([0.0, 1.0]),
        window=st.none() | st.integers(1, 5),
        block_length=st.none() | st.integers(1, 5),
        worker_limit=st.sampled_from([512, 16, 5]),
        stop=st.just(()) | st.tuples(st.integers(0, VOCAB_SIZE - 1), st.integers(0, VOCAB_SIZE - 1)),
        worker_ends=st.none() | st.frozensets(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=2),
        connecting_since=st.none() | st.just(0.0),
        reads_ahead=st.booleans(),
    )
    def begin(self, connecting_since: float | None, reads_ahead: bool, **chosen: Unpack[Chosen]) -> None:
        if self.grammar is not None:
            chosen["grammar"] = self.grammar
            chosen["stop"] = ()
            chosen["worker_ends"] = None if chosen.get("worker_ends") is None else frozenset([UNUSED])
        self.chosen = chosen
        self.circle = Circle(**chosen, connecting_since=connecting_since, reads_ahead=reads_ahead)

    @rule()
    def draft(self) -> None:
        self.circle.draft()

    @rule()
    def begin_draft(self) -> None:
        """What happens before it ends finds a draft under way, and may make it stale."""
        self.circle.begin_draft()

    @precondition(lambda self: self.circle.to_workers)
    @rule(data=st.data(), repeat=st.booleans(), opener=WORKERS)
    def deliver_to_worker(self, data: st.DataObject, repeat: bool, opener: str) -> None:
        index = data.draw(st.integers(0, len(self.circle.to_workers) - 1))
        self.circle.deliver_to_worker(index, keep=repeat, opener=opener)

    @precondition(lambda self: self.circle.to_device)
    @rule(data=st.data(), repeat=st.booleans())
    def deliver_to_device(self, data: st.DataObject, repeat: bool) -> None:
        self.circle.deliver_to_device(data.draw(st.integers(0, len(self.circle.to_device) - 1)), keep=repeat)

    @precondition(lambda self: self.circle.to_workers)
    @rule(data=st.data())
    def lose_uplink(self, data: st.DataObject) -> None:
        self.circle.to_workers.pop(data.draw(st.integers(0, len(self.circle.to_workers) - 1)))

    @precondition(lambda self: self.circle.to_device)
    @rule(data=st.data())
    def lose_downlink(self, data: st.DataObject) -> None:
        self.circle.to_device.pop(data.draw(st.integers(0, len(self.circle.to_device) - 1)))

    @rule(name=WORKERS)
    def work(self, name: str) -> None:
        self.circle.work(name)

    @rule(name=WORKERS)
    def kill_worker(self, name: str) -> None:
        self.circle.workers[name] = self.circle.new_worker(name)

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0]))
    def pass_time(self, seconds: float) -> None:
        self.circle.pass_time(seconds)

    @rule()
    def nobody_listens(self) -> None:
        self.circle.advance(LinkEvent.NO_WORKER)

    @rule()
    def new_link(self) -> None:
        self.circle.advance(LinkEvent.UP)

    @rule()
    def lose_link(self) -> None:
        self.circle.advance(LinkEvent.DOWN)

    @rule(name=WORKERS)
    def worker_leaves(self, name: str) -> None:
        self.circle.to_device.append(Refusal(None, Reason.BUSY, name))

    @invariant()
    def final_tokens_never_change(self) -> None:
        if hasattr(self, "circle"):
            expected = undisturbed(**self.chosen)
            assert tuple(self.circle.text) == expected[: len(self.circle.text)]

    def teardown(self) -> None:
        if hasattr(self, "circle"):
            self.circle.advance(LinkEvent.UP)
            self.circle.settle()
            assert self.circle.edge.failure is None
            assert tuple(self.circle.text) == undisturbed(**self.chosen)


BadLink.TestCase.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=ALL_CHECKS
)
test_any_fault_leaves_the_text_unchanged = BadLink.TestCase


@pytest.mark.slow
class TestLong(BadLink.TestCase):
    """The same, for minutes."""

    settings = settings(
        max_examples=3000, stateful_step_count=150, deadline=None, suppress_health_check=ALL_CHECKS
    )
