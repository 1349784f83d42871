"""The messages of a chat, which may outgrow the model.

Law: no turn ends a chat. What does not fit into the model is left out from the beginning, turn by turn, and
the user is told. A question that got no answer is left out too, as if it had not been asked.
"""

from collections.abc import Callable, Sequence

from edge_agent.errors import PromptError
from edge_agent.text.prompts import Message


class Conversation:
    """Questions and answers in turn."""

    def __init__(self) -> None:
        self._turns: list[tuple[Message, Message]] = []

    def messages(self, question: str) -> list[Message]:
        """What to ask the model: all turns, then the question."""
        return [*(message for turn in self._turns for message in turn), _message("user", question)]

    def add(self, question: str, answer: str) -> None:
        """Remember a turn."""
        self._turns.append((_message("user", question), _message("assistant", answer)))

    def forget(self) -> bool:
        """Leave out the oldest turn; False if there is none."""
        return bool(self._turns) and bool(self._turns.pop(0))

    def fit(self, question: str, check: Callable[[Sequence[Message]], object]) -> int:
        """Leave out as many of the oldest turns as `check` needs; how many.

        Raises PromptError, and leaves out nothing, if `check` refuses the question alone.
        """
        turns = self._turns
        for number in range(len(turns) + 1):
            self._turns = turns[number:]
            try:
                check(self.messages(question))
            except PromptError:
                if not self._turns:
                    self._turns = turns
                    raise
            else:
                return number
        raise AssertionError("unreachable")


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
