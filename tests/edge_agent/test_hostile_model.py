"""Model folders and chat templates that are broken or hostile: a one-line error, in bounded time."""

import json
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from common.sampling.distribution import Sampling
from edge_agent.draft_model.files import DEMO_FOLDER, read_info
from edge_agent.errors import AgentError, ModelError
from edge_agent.text.chat_template import ChatTemplate

MESSAGES = [{"role": "user", "content": "turn on the light"}]

BOMBS = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a text that doubles": (
        "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
        "{{ ns.s }}"
    ),
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a macro that calls itself twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "a product": "{{ 'a' * 10 ** 10 }}",
    "a list": "{{ [1] * 10 ** 10 }}",
    "a power": "{{ 10 ** (10 ** 9) }}",
    "a large but finite text": "{{ 'a' * 30000000 }}",
    "centring": "{{ 'a' | center(10 ** 10) }}",
    "percent format": "{{ '%10000000000d' % 1 }}",
    "format": "{{ '{:>9999999999}'.format(1) }}",
    "filler": "{{ lipsum(n=10 ** 7) }}",
    "a long range": "{{ range(10 ** 9) | list }}",
    "lists in lists that are compared": (
        "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
        "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}"
    ),
    "deep parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep blocks": "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "a huge source": "a" * 2_000_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_cannot_take_the_time_or_memory_of_the_device(name: str) -> None:
    used, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(AgentError) as caught:
        ChatTemplate(BOMBS[name], {}).render(MESSAGES, tools=None)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 100 * 1024


def test_after_a_bomb_other_templates_work_as_before() -> None:
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}", {"bos_token": "<s>"})
    expected = "<s>turn on the light"
    assert template.render(MESSAGES, tools=None) == expected
    with pytest.raises(ModelError, match="more than"):
        ChatTemplate(BOMBS["a product"], {}).render(MESSAGES, tools=None)
    assert template.render(MESSAGES, tools=None) == expected


# -- the other files --------------------------------------------------------------------------------------


def folder_with(tmp_path: Path, name: str, content: str | dict[str, Any]) -> Path:
    """The demo model's folder, with one file replaced or, for a dict, with other fields."""
    for file in DEMO_FOLDER.iterdir():
        (tmp_path / file.name).symlink_to(file)
    path = tmp_path / name
    fields = json.loads(path.read_text()) if path.exists() and isinstance(content, dict) else {}
    path.unlink(missing_ok=True)
    path.write_text(json.dumps({**fields, **content}) if isinstance(content, dict) else content)
    return tmp_path


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": -1},
        {"temperature": "hot"},
        {"temperature": True},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": 10**400},
        {"top_k": -1},
        {"top_k": float("nan")},
        {"top_k": 1e300},
        {"top_k": []},
        {"min_p": -1},
        {"min_p": 1.5},
        {"min_p": float("nan")},
        {"min_p": "0.1"},
        {"repetition_penalty": 0},
        {"repetition_penalty": -1},
        {"repetition_penalty": float("nan")},
        {"repetition_penalty": 10**400},
        {"repetition_penalty": [1.1]},
        {"presence_penalty": float("-inf")},
        {"frequency_penalty": True},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_p": float("nan")},
        {"top_p": {}},
    ],
)
def test_sampling_out_of_range_is_one_sentence(tmp_path: Path, fields: dict[str, Any]) -> None:
    folder = folder_with(tmp_path, "generation_config.json", {"do_sample": True, **fields})
    with pytest.raises(ModelError, match=next(iter(fields))) as caught:
        read_info(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_sampling_within_its_range_is_taken_as_it_is(tmp_path: Path) -> None:
    fields = {"do_sample": True, "temperature": 0.5, "top_k": 0, "top_p": 1}
    folder = folder_with(tmp_path, "generation_config.json", fields)
    assert read_info(folder).sampling == Sampling(0.5, 0, 1.0)


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 5000 + "}", "", "[]", "3", "{", "NaN"],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, file: str, content: str) -> None:
    with pytest.raises(ModelError, match=file) as caught:
        read_info(folder_with(tmp_path, file, content))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "config.json", "{}")
    with (folder / "config.json").open("r+b") as file:
        file.truncate(10 * 2**30)  # of zeros, which take no space
    with pytest.raises(ModelError, match="more than 64 MiB"):
        read_info(folder)


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("config.json", {"max_position_embeddings": 10**30}),
        ("config.json", {"max_position_embeddings": True, "n_positions": None}),
        ("config.json", {"head_dim": 10**20}),
        ("generation_config.json", {"eos_token_id": "</s>"}),
        ("generation_config.json", {"eos_token_id": [1, "2"]}),
        ("generation_config.json", {"eos_token_id": 10**30}),
        ("generation_config.json", {"eos_token_id": [[1]]}),
        ("generation_config.json", {"eos_token_id": -7}),
        ("tokenizer_config.json", {"chat_template": ["a", "b"]}),
        ("tokenizer_config.json", {"chat_template": [{"name": "default", "template": ["a"]}]}),
        ("tokenizer_config.json", {"chat_template": [[]]}),
        ("tokenizer_config.json", {"chat_template": {"default": "a"}}),
        ("tokenizer_config.json", {"chat_template": 7}),
    ],
)
def test_a_field_that_makes_no_sense_is_one_sentence(
    tmp_path: Path, file: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(ModelError) as caught:
        read_info(folder_with(tmp_path, file, fields))
    assert "\n" not in str(caught.value)


def test_infinity_in_a_field_that_is_not_read_is_no_error(tmp_path: Path) -> None:
    """As transformers writes it for models with `time_step_limit`."""
    folder = folder_with(tmp_path, "config.json", {"time_step_limit": [0.0, float("inf")]})
    assert read_info(folder).max_positions > 0
