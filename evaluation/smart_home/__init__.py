"""The task of the demo pair: commands to a smart home, the actions they mean, and a spoken answer."""

from evaluation.smart_home.action import Action, actions_to_json
from evaluation.smart_home.chat import prompt_text, reply_text
from evaluation.smart_home.command import Command, held_out_commands, training_command
from evaluation.smart_home.scoring import exact_match

__all__ = [
    "Action",
    "Command",
    "actions_to_json",
    "exact_match",
    "held_out_commands",
    "prompt_text",
    "reply_text",
    "training_command",
]
