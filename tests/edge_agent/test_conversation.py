"""A chat that outgrows the model: the oldest turns are left out, and no more of them than needed."""

from collections.abc import Sequence

import pytest

from edge_agent.cli.conversation import Conversation
from edge_agent.errors import PromptError
from edge_agent.text.prompts import Message


def at_most(limit: int, messages: Sequence[Message]) -> None:
    if len(messages) > limit:
        raise PromptError("too long")


def three_turns() -> Conversation:
    conversation = Conversation()
    for number in range(3):
        conversation.add(f"question {number}", f"answer {number}")
    return conversation


@pytest.mark.parametrize(("limit", "left_out"), [(9, 0), (7, 0), (6, 1), (5, 1), (3, 2), (2, 3), (1, 3)])
def test_no_more_turns_are_left_out_than_needed(limit: int, left_out: int) -> None:
    conversation = three_turns()
    assert conversation.fit("last", lambda messages: at_most(limit, messages)) == left_out
    asked = conversation.messages("last")
    assert [message["role"] for message in asked] == ["user", "assistant"] * (3 - left_out) + ["user"]
    assert asked[-1]["content"] == "last"
    assert left_out == 3 or asked[0]["content"] == f"question {left_out}"


def test_a_question_that_is_too_long_by_itself_leaves_out_nothing() -> None:
    conversation = three_turns()
    with pytest.raises(PromptError):
        conversation.fit("last", lambda messages: at_most(0, messages))
    assert len(conversation.messages("next")) == 7


def test_there_is_nothing_to_forget_in_the_end() -> None:
    conversation = three_turns()
    assert [conversation.forget() for _ in range(4)] == [True, True, True, False]
