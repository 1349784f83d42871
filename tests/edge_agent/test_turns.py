"""Turns at the draft model: no one starves, and a prompt holds up a token by one run at most."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_agent.slots.turns import MOST_TOKENS, Turns

CONVERSATIONS = st.integers(0, 5)


@dataclass
class Waiting:
    """One that waits, and who went before it."""

    reads: bool
    num_runs: int  # of prompts, in progress or begun since it waits
    went: list[int] = field(default_factory=list[int])
    num_tokens: int = 0


class TurnsMachine(RuleBasedStateMachine):
    """Conversations come, go, and take turns of any length."""

    @initialize()
    def begin(self) -> None:
        self.turns: Turns[int] = Turns()
        self.waiting: dict[int, Waiting] = {}
        self.turn: tuple[int, bool] | None = None

    @rule(key=CONVERSATIONS, reads=st.booleans())
    def wait(self, key: int, reads: bool) -> None:
        if key in self.waiting or (self.turn and self.turn[0] == key):
            return
        self.turns.wait(key, reads=reads)
        self.waiting[key] = Waiting(reads, int(bool(self.turn and self.turn[1])))

    @rule(key=CONVERSATIONS)
    def leave(self, key: int) -> None:
        assert self.turns.leave(key) == (key in self.waiting)
        self.waiting.pop(key, None)

    @precondition(lambda self: self.turn is None)
    @rule()
    def next(self) -> None:
        key = self.turns.next()
        assert (key is None) == (not self.waiting)
        if key is None:
            return
        reads = self.waiting.pop(key).reads
        self.turn = key, reads
        for one in self.waiting.values():
            one.num_runs += reads
            one.num_tokens += not reads
            if reads == one.reads:
                one.went.append(key)

    @precondition(lambda self: self.turn is not None)
    @rule(seconds=st.sampled_from([0.0, 0.001, 0.02, 1.0]), goes_on=st.booleans())
    def ended(self, seconds: float, goes_on: bool) -> None:
        assert self.turn is not None
        key, reads = self.turn
        self.turns.ended(seconds)
        self.turn = None
        if goes_on:
            self.wait(key, reads)

    @invariant()
    def a_token_waits_for_one_run_of_a_prompt_and_once_for_each_other_token(self) -> None:
        for one in self.waiting.values():
            assert one.reads or one.num_runs <= 1
            assert len(one.went) == len(set(one.went))

    @invariant()
    def a_prompt_waits_for_a_bounded_number_of_turns(self) -> None:
        for one in self.waiting.values():
            if one.reads:
                assert one.num_tokens <= (len(one.went) + 1) * (MOST_TOKENS + 6)


TestTurns = TurnsMachine.TestCase
TestTurns.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_a_running_conversation_and_a_long_prompt_share_the_time_by_halves() -> None:
    turns: Turns[str] = Turns()
    turns.wait("prompt", reads=True)
    seconds, used = {"prompt": 1.0, "token": 0.125}, {"prompt": 0.0, "token": 0.0}
    for _ in range(90):
        key = turns.next()
        assert key is not None
        if not used["token"]:
            turns.wait("token", reads=False)  # as the first run goes on
        used[key] += seconds[key]
        turns.ended(seconds[key])
        if key == "prompt" or used["token"]:
            turns.wait(key, reads=key == "prompt")
    assert 0.9 < used["token"] / used["prompt"] < 1.1


def test_a_prompt_has_the_model_for_itself_while_no_token_is_wanted() -> None:
    turns: Turns[str] = Turns()
    for _ in range(3):
        turns.wait("prompt", reads=True)
        assert turns.next() == "prompt"
        turns.ended(1.0)


def test_tokens_that_take_no_time_do_not_keep_a_prompt_waiting() -> None:
    turns: Turns[str] = Turns()
    turns.wait("prompt", reads=True)
    assert turns.next() == "prompt"
    turns.wait("token", reads=False)
    turns.ended(1.0)
    turns.wait("prompt", reads=True)
    went = list[str | None]()
    while (key := turns.next()) == "token":
        went.append(key)
        turns.ended(0.0)
        turns.wait("token", reads=False)
    assert (key, len(went)) == ("prompt", MOST_TOKENS)
