"""Which format of calls a model has, by its chat template and its special tokens. Pure.

A model that shows no format is asked in Hermes' words: with the grammar it can write nothing else.
"""

from collections.abc import Callable

from edge_agent.tools import action_list, hermes, llama, mistral
from edge_agent.tools.call_format import CallFormat

TokenId = Callable[[str], int | None]  # the id of a special token


def choose(template: str, token_id: TokenId) -> CallFormat:
    """The format of the model with this chat template and these tokens."""
    if action_list.MARK in template:
        return action_list.ActionList()
    knows_tools = "tools" in template
    if hermes.OPEN not in template and knows_tools:
        if mistral.MARK in template:
            return mistral.Mistral(token_id(mistral.MARK))
        if llama.MARK in template or token_id(llama.MARK) is not None:
            return llama.Llama(token_id(llama.MARK))
    marks = (token_id(hermes.OPEN), token_id(hermes.CLOSE))
    return hermes.Hermes(*marks, template_knows_tools=knows_tools)
