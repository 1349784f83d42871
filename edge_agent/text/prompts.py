"""Turns the caller's prompt into the tokens that a generation begins with.

Law: a prompt that the model cannot take (not text, empty, too long) is refused here, before any work.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from edge_agent.errors import PromptError
from edge_agent.text.tokenizer import Text

Message: TypeAlias = Mapping[str, object]

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # Python's surrogates for bytes that are not text


def encode_prompt(text: Text, prompt: str | Sequence[Message], *, raw: bool, max_positions: int) -> list[int]:
    """The tokens of a text or of chat messages; `raw` bypasses the chat template for a text.

    The texts of special tokens are control ids only in a raw prompt.

    Raises PromptError if a prompt is empty, not valid Unicode, or leaves no room within `max_positions`.
    """
    _check_unicode(prompt)
    if not isinstance(prompt, str):
        tokens = text.chat_prompt(prompt)
    elif text.has_chat_template and not raw:
        tokens = text.chat_prompt([{"role": "user", "content": prompt}])
    else:
        tokens = text.encode(prompt) if raw else text.encode_text(prompt)
    if not tokens:
        raise PromptError("the prompt is empty: give the model something to continue")
    if len(tokens) >= max_positions:
        raise PromptError(
            f"the prompt has {len(tokens)} tokens, but the draft model takes {max_positions} "
            "together with the answer: shorten it"
        )
    return tokens


def _check_unicode(prompt: str | Sequence[Message]) -> None:
    texts = [prompt] if isinstance(prompt, str) else [str(message.get("content")) for message in prompt]
    if any(_HALF_CHARACTER.search(text) for text in texts):
        raise PromptError("the prompt is not valid Unicode: it has bytes or surrogates that are not text")
