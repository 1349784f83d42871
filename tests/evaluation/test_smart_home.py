"""The demo pair's task: two worlds of commands that share nothing, and one right reply to every command."""

import json
from pathlib import Path
from random import Random

import pytest

from evaluation.smart_home import (
    Action,
    Command,
    actions_to_json,
    exact_match,
    held_out_commands,
    prompt_text,
    reply_text,
    training_command,
)
from evaluation.smart_home.answer import answer_sentence
from evaluation.smart_home.command import is_held_out_combination
from evaluation.smart_home.house import DEVICES, ROOM_NAMES
from evaluation.smart_home.remarks import QUESTIONS, REMARKS, SCENES, SMALL_TALK
from evaluation.smart_home.requests import REQUESTS
from evaluation.smart_home.scoring import read_actions
from evaluation.smart_home.spoken import clock, number_words, spoken_clock
from evaluation.smart_home.wordings import expand, split_wordings

NUM_TRAINING = 6000
ALL_PATTERNS = (*REQUESTS.values(), *QUESTIONS.values(), *REMARKS.values(), *SCENES.values(), SMALL_TALK)


@pytest.fixture(scope="module")
def training() -> list[Command]:
    rng = Random(7)
    return [training_command(rng) for _ in range(NUM_TRAINING)]


@pytest.fixture(scope="module")
def held_out() -> list[Command]:
    return held_out_commands(600, seed=5)


def plain(text: str) -> str:
    return text.lower().rstrip(".!")


def test_the_same_seed_gives_the_same_commands() -> None:
    assert held_out_commands(50, seed=3) == held_out_commands(50, seed=3)
    assert held_out_commands(50, seed=3) != held_out_commands(50, seed=4)
    assert training_command(Random(1)) == training_command(Random(1))


def test_the_published_commands_are_those_that_the_generator_draws() -> None:
    """A change here makes the published models' accuracies incomparable: train them again."""
    lines = (
        (Path(__file__).parents[2] / "evaluation" / "smart_home" / "held_out.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    drawn = [
        {
            "command": each.text,
            "actions": [action.to_dict() for action in each.actions],
            "answer": each.answer,
        }
        for each in held_out_commands(len(lines), seed=1)
    ]
    assert [json.loads(line) for line in lines] == drawn


def test_no_held_out_command_is_a_training_command(training: list[Command], held_out: list[Command]) -> None:
    assert not {plain(each.text) for each in training} & {plain(each.text) for each in held_out}


def test_training_uses_no_held_out_wording_or_combination(training: list[Command]) -> None:
    assert not any(command.held_out_wording for command in training)
    assert not any(is_held_out_combination(action) for command in training for action in command.actions)


def test_every_held_out_command_uses_a_held_out_wording_or_combination(held_out: list[Command]) -> None:
    assert all(command.held_out for command in held_out)
    assert any(command.held_out_wording for command in held_out)
    assert any(is_held_out_combination(action) for command in held_out for action in command.actions)


@pytest.mark.parametrize("patterns", ALL_PATTERNS, ids=lambda patterns: patterns[0][:30])
def test_the_words_of_held_out_wordings_stay_in_training(patterns: tuple[str, ...]) -> None:
    training, held_out = split_wordings(patterns)
    assert not set(training) & set(held_out)
    assert {word for each in held_out for word in each.split()} <= {
        word for each in training for word in each.split()
    }


def test_about_a_seventh_of_the_wordings_is_held_out() -> None:
    num_training = sum(len(split_wordings(patterns)[0]) for patterns in ALL_PATTERNS)
    num_held_out = sum(len(split_wordings(patterns)[1]) for patterns in ALL_PATTERNS)
    assert 0.10 < num_held_out / (num_training + num_held_out) < 0.20


def test_a_pattern_stands_for_all_its_choices() -> None:
    assert set(expand("(turn|switch) {x} (on|off)")) == {
        "turn {x} on",
        "turn {x} off",
        "switch {x} on",
        "switch {x} off",
    }


def test_a_text_never_means_two_things(training: list[Command], held_out: list[Command]) -> None:
    meanings: dict[str, set[str]] = {}
    for command in (*training, *held_out):
        meanings.setdefault(plain(command.text), set()).add(actions_to_json(command.actions))
    assert [text for text, found in meanings.items() if len(found) > 1] == []


def test_no_placeholder_and_no_double_space_remains(training: list[Command], held_out: list[Command]) -> None:
    for command in (*training, *held_out):
        assert not set("{}()|") & set(command.text), command.text
        assert not set("{}()|") & set(command.answer), command.answer
        assert "  " not in command.text


def test_all_devices_rooms_and_actions_occur(training: list[Command]) -> None:
    actions = [action for command in training for action in command.actions]
    assert {action.device for action in actions} == {*DEVICES, "scene", "timer"}
    assert {action.room for action in actions} == {*ROOM_NAMES, "house", "all"}
    assert {action.action for action in actions} >= {*REQUESTS, *SCENES, "query"} - {"timer"}
    assert len(DEVICES) >= 12
    assert len(ROOM_NAMES) >= 10


def test_commands_have_none_to_several_actions_and_modifiers_of_all_kinds(training: list[Command]) -> None:
    assert {len(command.actions) for command in training} >= {0, 1, 2, 3}
    actions = [action for command in training for action in command.actions]
    for field in ("value", "excluded", "when", "after", "minutes"):
        assert any(getattr(action, field) is not None for action in actions), field


def test_no_name_belongs_to_two_rooms_or_devices() -> None:
    for names in ([*ROOM_NAMES.values()], [device.names for device in DEVICES.values()]):
        flat = [name for each in names for name in each]
        assert len(flat) == len(set(flat))


def test_the_reply_is_json_then_a_sentence_then_the_end(training: list[Command]) -> None:
    for command in training[:500]:
        first, second = reply_text(command).split("\n")
        assert json.loads(first) == [action.to_dict() for action in command.actions]
        assert second == command.answer + "<|end|>"


def test_the_answer_follows_from_the_actions_alone(training: list[Command]) -> None:
    assert all(answer_sentence(command.actions) == command.answer for command in training)


def test_an_action_is_written_with_the_fields_that_it_has() -> None:
    actions = [Action("light", "kitchen", "on"), Action("heating", "office", "temperature", 21, when="18:30")]
    assert actions_to_json(actions) == (
        '[{"device":"light","room":"kitchen","action":"on"},'
        '{"device":"heating","room":"office","action":"temperature","value":21,"when":"18:30"}]'
    )
    assert answer_sentence(actions) == (
        "Okay, the kitchen light is on and the office heating will be set to 21 degrees at 18:30."
    )


def test_a_prompt_ends_where_the_reply_begins() -> None:
    assert prompt_text("good night") == "<|user|>good night<|assistant|>"


@pytest.mark.parametrize(
    ("generated", "right"),
    [
        ('[{"device":"light","room":"kitchen","action":"on"}]\nOkay.', True),
        ('[{"device": "light", "room": "kitchen", "action": "on"}]', True),
        ('[{"device":"light","room":"kitchen","action":"off"}]\nOkay.', False),
        ('[{"device":"light","room":"kitchen","action":"on","value":1}]', False),
        ('[{"device":"light","room":"kitchen"', False),
        ("[]", False),
        ("", False),
        ('"light"', False),
        ("[1]", False),
    ],
)
def test_exact_match_asks_for_the_very_actions(generated: str, right: bool) -> None:
    assert exact_match(generated, [Action("light", "kitchen", "on")]) is right


def test_what_is_not_a_list_of_objects_has_no_actions() -> None:
    assert read_actions("[]") == []
    assert read_actions('{"device":"light"}') is None
    assert read_actions("[[]]") is None


def test_numbers_and_times_are_said_as_people_say_them() -> None:
    assert [number_words(number) for number in (0, 13, 20, 47, 100)] == [
        "zero",
        "thirteen",
        "twenty",
        "forty-seven",
        "a hundred",
    ]
    assert clock(18 * 60 + 30) == "18:30"
    assert clock(24 * 60) == "00:00"


def test_a_spoken_time_means_one_time() -> None:
    rng, meanings = Random(0), dict[str, set[str]]()
    for _ in range(20_000):
        when, said = spoken_clock(rng)
        meanings.setdefault(said, set()).add(when)
    assert all(len(found) == 1 for found in meanings.values())
    assert meanings["half past six in the evening"] == {"18:30"}
    assert meanings["quarter to eight in the morning"] == {"07:45"}
