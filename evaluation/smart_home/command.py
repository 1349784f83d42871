"""A command: one to three wishes in one utterance, with the right actions and the right answer.

Law: the training commands and the held-out commands share no command. A *training* command uses neither a
held-out wording nor a held-out combination of device, room and action; a *held-out* command uses at least
one.
"""

import hashlib
import re
from dataclasses import dataclass, replace
from functools import cache
from random import Random

from evaluation.smart_home.action import Action
from evaluation.smart_home.answer import answer_sentence
from evaluation.smart_home.house import DEVICES
from evaluation.smart_home.wish import Wish, draw_small_talk, draw_wish

HELD_OUT_COMBINATIONS = 0.08
SMALL_TALK_SHARE = 0.03

PREFIXES = (
    "",
    "",
    "",
    "",
    "",
    "",
    "please ",
    "could you ",
    "can you ",
    "would you ",
    "hey, ",
    "hey house, ",
    "okay, ",
    "i want you to ",
    "i would like you to ",
    "i need you to ",
    "now ",
    "could you please ",
    "go and ",
    "hello, please ",
)
SUFFIXES = ("", "", "", "", "", "", " please", ", please", " for me", ", thanks", ", will you")
JOINERS = (
    " and ",
    " and ",
    ", then ",
    " and then ",
    " and also ",
    ". ",
    ". then ",
    ", and please ",
    " and please ",
)


@dataclass(frozen=True)
class Command:
    """What is said, what it means, and what the home answers."""

    text: str
    actions: tuple[Action, ...]
    answer: str
    held_out_wording: bool = False

    @property
    def held_out(self) -> bool:
        """Whether it must never occur in training."""
        return self.held_out_wording or any(is_held_out_combination(action) for action in self.actions)


@cache
def _share_of(device: str, room: str, action: str) -> float:
    digest = hashlib.sha256(f"{device}/{room}/{action}".encode()).digest()
    return int.from_bytes(digest[:4]) / 2**32


def is_held_out_combination(action: Action) -> bool:
    """Whether an action is among the held-out 8 % of (device, room, action), for devices in many rooms."""
    in_a_room = action.room not in ("house", "all") and (
        action.device == "vacuum" or len(DEVICES[action.device].rooms) > 1
    )
    return in_a_room and _share_of(action.device, action.room, action.action) < HELD_OUT_COMBINATIONS


def training_command(rng: Random) -> Command:
    """Draw a training command."""
    while (command := _draw_command(rng, held_out_rate=0.0)).held_out:
        pass
    return command


def held_out_commands(num: int, seed: int) -> list[Command]:
    """Draw `num` different held-out commands; equal seeds give equal commands."""
    rng = Random(f"held out {seed}")
    found: dict[str, Command] = {}
    while len(found) < num:
        command = _draw_command(rng, held_out_rate=0.1)
        if command.held_out:
            found.setdefault(command.text, command)
    return list(found.values())


def _draw_command(rng: Random, held_out_rate: float) -> Command:
    if rng.random() < SMALL_TALK_SHARE:
        wishes = [draw_small_talk(rng, held_out_rate)]
    else:
        num_wishes = rng.choices((1, 2, 3), (50, 35, 15))[0]
        wishes = [draw_wish(rng, held_out_rate) for _ in range(num_wishes)]
    actions = tuple(action for wish in wishes for action in wish.actions)
    held_out_wording = any(wish.held_out_wording for wish in wishes)
    return Command(_written(rng, _joined(rng, wishes)), actions, answer_sentence(actions), held_out_wording)


def _joined(rng: Random, wishes: list[Wish]) -> str:
    text = _polite(rng, wishes[0]).text
    for wish in wishes[1:]:
        text += rng.choice(JOINERS if wish.request else JOINERS[:-2]) + wish.text
    return text + (rng.choice(SUFFIXES) if wishes[-1].request else "")


def _polite(rng: Random, wish: Wish) -> Wish:
    return replace(wish, text=rng.choice(PREFIXES) + wish.text) if wish.request else wish


def _written(rng: Random, text: str) -> str:
    """Write the text with or without capitals and a full stop, as people do, and with single spaces."""
    text = re.sub(r" +", " ", text).strip()
    if rng.random() < 0.5:
        text = re.sub(r"\bi\b", "I", text)
        text = re.sub(r"(^|\. )([a-z])", lambda match: match[1] + match[2].upper(), text)
    return text + rng.choice(("", "", ".", "!"))
