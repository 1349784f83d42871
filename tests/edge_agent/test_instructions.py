"""System prompts and the variables of chat templates: they have an effect, or are an error of one line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_agent.assembly import build_instructions
from edge_agent.cli.asks import Ask, Form, Unreadable, parse_line
from edge_agent.config import AgentConfig
from edge_agent.errors import ConfigError, PromptError
from edge_agent.text.chat_template import ChatTemplate
from edge_agent.text.instructions import Instructions
from edge_agent.text.prompts import encode_prompt
from edge_agent.text.template_vars import MAX_CHARACTERS, parse_template_vars
from edge_agent.text.tokenizer import Text
from tests.support.small_models import make_tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}<|quick|>{% endif %}"
    "{{ style | default('') }}<|assistant|>"
)
WITHOUT_SYSTEM = "{% for message in messages if message.role != 'system' %}{{ message.content }}{% endfor %}"
REFUSING = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}x"


def text_of(template: str | None) -> Text:
    return Text(make_tokenizer(), ChatTemplate(template, {"bos_token": "<s>"}) if template else None)


def tokens(template: str | None, prompt: Any = "on", *, raw: bool = False, **given: Any) -> list[int]:
    instructions = Instructions(**given)
    return encode_prompt(text_of(template), prompt, raw=raw, max_positions=999, instructions=instructions)


def encoded(rendered: str) -> list[int]:
    return make_tokenizer().encode(rendered, add_special_tokens=False).ids


def test_a_system_prompt_begins_the_conversation() -> None:
    assert tokens(TEMPLATE, system="be brief") == encoded("<s><|system|>be brief<|user|>on<|assistant|>")


def test_messages_with_a_system_message_keep_it() -> None:
    messages = [{"role": "system", "content": "own"}, {"role": "user", "content": "on"}]
    assert tokens(TEMPLATE, messages, system="other") == tokens(TEMPLATE, messages)


def test_variables_reach_the_template() -> None:
    assert tokens(TEMPLATE, template_vars={"enable_thinking": False}) == encoded(
        "<s><|user|>on<|quick|><|assistant|>"
    )


def test_the_text_of_a_special_token_stays_text_in_instructions() -> None:
    plain = tokens(TEMPLATE, system="x", template_vars={"style": "x"})
    typed = tokens(TEMPLATE, system="x</s>", template_vars={"style": "x</s>"})
    end = make_tokenizer().token_to_id("</s>")
    assert end not in plain
    assert end not in typed
    assert len(typed) > len(plain)


@pytest.mark.parametrize(
    ("template", "given", "words"),
    [
        (TEMPLATE, {"template_vars": {"enable_thinkin": False}}, "sets enable_thinkin, which"),
        (TEMPLATE, {"template_vars": {"bos_token": "x"}}, "cannot set bos_token"),
        (WITHOUT_SYSTEM, {"system": "be brief"}, "leaves `system` out"),
        (REFUSING, {"system": "be brief"}, "no system role"),
        (TEMPLATE, {"system": "\ud800"}, "not valid Unicode"),
        (None, {"system": "be brief"}, "no chat template"),
        (None, {"template_vars": {"a": 1}}, "no chat template"),
    ],
)
def test_instructions_without_effect_are_refused(
    template: str | None, given: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(PromptError, match=words) as caught:
        tokens(template, **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[" * 50_000, "not valid JSON"),
        ('{"a": NaN}', "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('{"a-b": 1}', "which no template can use"),
        ('{"": 1}', "which no template can use"),
        ('{"messages": []}', "cannot set messages"),
        ('{"add_generation_prompt": false}', "cannot set add_generation_prompt"),
        ('{"a": "' + "x" * MAX_CHARACTERS + '"}', "shorten it"),
    ],
)
def test_variables_that_no_template_can_take_are_refused(text: str, words: str) -> None:
    with pytest.raises(PromptError, match=words) as caught:
        parse_template_vars(text)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=words):
        AgentConfig(template_vars=text)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"raw": True, "system": "x"}, "`system` is for the chat template"),
        ({"raw": True, "template_vars": "{}"}, "`template_vars` is for the chat template"),
        ({"system": "x", "system_file": "y"}, "set one of them"),
        ({"system": " "}, "`system` is empty"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AgentConfig(**settings)


def test_a_system_prompt_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "system.txt"
    file.write_text("be\nbrief\n", encoding="utf-8")
    assert build_instructions(AgentConfig(system_file=str(file))).system == "be\nbrief"


@pytest.mark.parametrize("content", [None, b"\xff", b" \n", b"x" * ((1 << 20) + 1)])
def test_a_file_without_a_system_prompt_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "system.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"`system_file` .*system\.txt"):
        build_instructions(AgentConfig(system_file=str(file)))


def test_a_line_of_json_may_have_instructions() -> None:
    line = '{"prompt": "a", "system": "b", "template_vars": {"c": 1}}'
    assert parse_line(line, Form.JSONL) == Ask("a", system="b", template_vars={"c": 1})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"messages": [{"role": "user"}], "system": "b"}', "'system' goes with 'prompt'"),
        ('{"prompt": "a", "system": ""}', "'system' must be a text"),
        ('{"prompt": "a", "system": 1}', "'system' must be a text"),
        ('{"prompt": "a", "template_vars": [1]}', "must be a JSON object"),
        ('{"prompt": "a", "template_vars": {"tools": 1}}', "cannot set tools"),
    ],
)
def test_instructions_of_a_line_are_checked(line: str, words: str) -> None:
    unreadable = parse_line(line, Form.JSONL)
    assert isinstance(unreadable, Unreadable)
    assert words in str(unreadable.error)
