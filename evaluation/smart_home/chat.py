"""A command and its reply as one text, with marks that are single tokens of the tokenizer.

Law: the training text is what the tokenizer's chat template writes:
`<|user|>COMMAND<|assistant|>REPLY<|end|>`, where REPLY is the JSON of the actions, a line break and the
answer.
"""

from edge_agent.tools.action_list import MARK
from evaluation.smart_home.action import actions_to_json
from evaluation.smart_home.command import Command

USER, ASSISTANT, END, PADDING = "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"

CHAT_TEMPLATE = (
    f"{MARK}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}<|end|>"
    "{% elif message['role'] == 'user' %}<|user|>{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def prompt_text(command_text: str) -> str:
    """Return the text that a model reads."""
    return f"{USER}{command_text}{ASSISTANT}"


def reply_text(command: Command) -> str:
    """Return the text that a model should write."""
    return f"{actions_to_json(command.actions)}\n{command.answer}{END}"
