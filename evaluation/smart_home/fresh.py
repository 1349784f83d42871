"""Held-out commands that are not among the published ones: to calibrate and tune on.

Law: they share no command with the published ones, which quality is scored on, nor with the training data.
"""

from evaluation.smart_home import held_out_commands
from evaluation.smart_home.held_out import held_out

NUM_FRESH = 400
FRESH_SEED = 11  # differs from those of training, the published commands and their scores


def fresh_commands(num: int = NUM_FRESH) -> list[str]:
    """Draw `num` held-out commands that are not among the published ones."""
    published = {each.command for each in held_out()}
    drawn = held_out_commands(num + len(published), FRESH_SEED)
    return [command.text for command in drawn if command.text not in published][:num]
