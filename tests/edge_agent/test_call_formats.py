"""The formats of calls: what each lets a model write, and how it is read."""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import jsonschema
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer

from common.grammar.answer import AnswerMasks
from common.grammar.engine import GrammarEngine
from common.protocol.grammar import Grammar
from edge_agent.errors import ConfigError
from edge_agent.tools import action_list, hermes, llama, mistral
from edge_agent.tools.call import Call, Piece
from edge_agent.tools.call_format import CallFormat, Reader
from edge_agent.tools.choosing import choose
from edge_agent.tools.tool import ToolUse, tool_use
from tests.support.intents import CLOCK, WEATHER
from tests.support.small_models import EOS, make_tokenizer

MARKS = (hermes.OPEN, hermes.CLOSE, mistral.MARK, llama.MARK)
CALL = {"city": "Rome", "days": 3, "unit": "c"}
WRITTEN = {"city": "Rome", "unit": "c"}
ENGINES: dict[int, GrammarEngine] = {}
PLAIN = make_tokenizer()
FORMATS: dict[str, tuple[str, str, str]] = {  # template, one call, two calls
    "hermes": (
        f"{{{{ tools }}}} {hermes.OPEN}",
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 3, "unit": "c"}}\n'
        "</tool_call>",
        '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>\n<tool_call>\n'
        '{"name": "get_weather", "arguments": {"city": "Rome", "unit": "c"}}\n</tool_call>',
    ),
    "llama": (
        f"{{{{ tools }}}} {llama.MARK}",
        '{"name": "get_weather", "parameters": {"city": "Rome", "days": 3, "unit": "c"}}',
        '{"name": "get_time", "parameters": {}}; {"name": "get_weather", "parameters": '
        '{"city": "Rome", "unit": "c"}}',
    ),
    "mistral": (
        f"{{{{ tools }}}} {mistral.MARK}",
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Rome", "days": 3, "unit": "c"}}]',
        '[TOOL_CALLS] [{"name": "get_time", "arguments": {}}, {"name": "get_weather", "arguments": '
        '{"city": "Rome", "unit": "c"}}]',
    ),
    "actions": (
        action_list.MARK,
        '[{"name":"get_weather","arguments":{"city":"Rome","days":3,"unit":"c"}}]',
        '[{"name":"get_time","arguments":{}},{"name":"get_weather","arguments":{"city":"Rome","unit":"c"}}]',
    ),
}


@pytest.fixture(name="tokenizer", scope="module")
def tokenizer_with_marks() -> Tokenizer:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in MARKS[:2]])
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in MARKS[2:]])
    return tokenizer


def used(choice: object = None, parallel: bool | None = None) -> ToolUse:
    use = tool_use([WEATHER, CLOCK], choice, parallel)
    assert use is not None
    return use


def format_of(name: str, tokenizer: Tokenizer | None) -> CallFormat:
    ids: Callable[[str], int | None] = (lambda _text: None) if tokenizer is None else tokenizer.token_to_id
    return choose(FORMATS[name][0], ids)


def end_of(tokenizer: Tokenizer) -> int:
    end = tokenizer.token_to_id(EOS)
    assert end is not None
    return end


def masks_of(grammar: Grammar, tokenizer: Tokenizer) -> AnswerMasks:
    end = end_of(tokenizer)
    engine = ENGINES.setdefault(id(tokenizer), GrammarEngine(lambda: tokenizer))
    return AnswerMasks(engine.compile(grammar), 1, [end], closing=end)


def allows(masks: AnswerMasks, tokenizer: Tokenizer, text: str) -> bool:
    """Whether the whole text, as the tokenizer writes it, may be an answer."""
    tokens = [0, *tokenizer.encode(text, add_special_tokens=False).ids]
    end = end_of(tokenizer)
    for position, token in enumerate([*tokens[1:], end], 1):
        mask = masks.mask(tokens, position)
        if mask is None or not mask[token // 32] >> token % 32 & 1:
            return False
    return True


def read(reader: Reader, tokenizer: Tokenizer, tokens: Sequence[int]) -> list[Piece]:
    """The pieces of an answer, read token by token; texts that touch are one."""
    specials = {id: one.content for id, one in tokenizer.get_added_tokens_decoder().items() if one.special}
    pieces: list[Piece] = []
    for token in tokens:
        text = "" if token in specials else tokenizer.decode([token])
        pieces += reader.push(text, specials.get(token, ""))
    return joined([*pieces, *reader.finish()])


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    found: list[Piece] = []
    for piece in pieces:
        if found and isinstance(piece, str) and isinstance(found[-1], str):
            found[-1] += piece
        else:
            found.append(piece)
    return found


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("has_marks", [True, False])
def test_a_model_may_write_its_calls_as_it_was_taught_and_they_are_read(
    name: str, has_marks: bool, tokenizer: Tokenizer
) -> None:
    chosen = tokenizer if has_marks else PLAIN
    _, one, two = FORMATS[name]
    for choice in (None, "required"):
        form = format_of(name, tokenizer if has_marks else None)
        form.conversation([{"role": "user", "content": "weather?"}], used(choice))
        masks = masks_of(form.grammar(used(choice), None), chosen)
        assert allows(masks, chosen, one)
        assert allows(masks, chosen, two)
        assert allows(masks, chosen, "Hello there.") == (choice is None and name != "actions")
        assert not allows(masks, chosen, one.replace("Rome", "Oslo"))
        assert not allows(masks, chosen, one.replace("get_weather", "get_wea"))
        for text, expected in (
            (one, [Call("get_weather", CALL)]),
            (two, [Call("get_time"), Call("get_weather", WRITTEN)]),
        ):
            tokens = chosen.encode(text, add_special_tokens=False).ids
            assert read(form.reader(used(choice)), chosen, tokens) == expected


@pytest.mark.parametrize("name", FORMATS)
def test_without_parallel_calls_there_is_one(name: str, tokenizer: Tokenizer) -> None:
    form = format_of(name, tokenizer)
    use = used("required", parallel=False)
    form.conversation([{"role": "user", "content": "weather?"}], use)
    masks = masks_of(form.grammar(use, None), tokenizer)
    assert allows(masks, tokenizer, FORMATS[name][1])
    assert not allows(masks, tokenizer, FORMATS[name][2])


@pytest.mark.parametrize("name", ["hermes", "mistral"])
def test_text_may_come_before_calls(name: str, tokenizer: Tokenizer) -> None:
    for chosen in (tokenizer, PLAIN):
        form = format_of(name, tokenizer if chosen is tokenizer else None)
        text = f"Let me <look>. [\n\n{FORMATS[name][2]}" if name == "hermes" else FORMATS[name][2]
        assert allows(masks_of(form.grammar(used(), None), chosen), chosen, text)
        pieces = read(form.reader(used()), chosen, chosen.encode(text, add_special_tokens=False).ids)
        expected: list[Piece] = [Call("get_time"), Call("get_weather", WRITTEN)]
        assert pieces == (["Let me <look>. [", *expected] if name == "hermes" else expected)


@pytest.mark.parametrize("name", FORMATS)
def test_every_answer_that_the_grammar_allows_is_read_as_valid_calls(name: str, tokenizer: Tokenizer) -> None:
    rng = Random(name)
    schemas = {one["function"]["name"]: one["function"]["parameters"] for one in (WEATHER, CLOCK)}
    for _ in range(10):
        form = format_of(name, tokenizer)
        use = used("required")
        form.conversation([{"role": "user", "content": "weather?"}], use)
        tokens = walk(masks_of(form.grammar(use, None), tokenizer), rng, end_of(tokenizer))
        pieces = read(form.reader(use), tokenizer, tokens)
        assert pieces
        for piece in pieces:
            assert isinstance(piece, Call), tokenizer.decode(tokens)
            jsonschema.validate(piece.arguments, schemas[piece.name])
            json.loads(piece.arguments_text)


def walk(masks: AnswerMasks, rng: Random, end: int) -> list[int]:
    """An answer that a model which knows nothing might write; it ends where it can."""
    tokens = [0]
    while True:
        mask = masks.mask(tokens, len(tokens))
        assert mask is not None
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()
        if end in allowed:
            return tokens[1:]
        tokens.append(rng.choice(allowed))


@pytest.mark.parametrize("name", FORMATS)
def test_a_text_must_match_its_own_grammar_beside_calls(name: str, tokenizer: Tokenizer) -> None:
    limits = Grammar.json_schema(
        {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    )
    form = format_of(name, tokenizer)
    form.conversation([{"role": "user", "content": "weather?"}], used())
    masks = masks_of(form.grammar(used(), limits), tokenizer)
    begin = "[]\n" if name == "actions" else ""
    assert allows(masks, tokenizer, f'{begin}{{"ok":true}}')
    assert not allows(masks, tokenizer, f"{begin}hello")
    assert allows(masks, tokenizer, FORMATS[name][1])
    assert allows(masks_of(form.grammar(used(), Grammar.regex("a/b")), tokenizer), tokenizer, f"{begin}a/b")
    with pytest.raises(ConfigError, match="`tools`"):
        form.grammar(used(), Grammar.lark('start: "a"'))


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("hermes", "a <tool_call> b", ["a"]),
        ("hermes", '<tool_call>{"name": "x", "arguments": {}}</tool_call>', None),
        ("hermes", "<tool_call>[1]</tool_call>", None),
        ("hermes", "1 < 2 <tool", None),
        ("hermes", " \n", None),
        ("llama", '{"ok": true}', None),
        ("llama", "{broken", None),
        ("llama", "", []),
        ("mistral", "[TOOL", None),
        ("mistral", "[TOOL_CALLS] nothing", ["nothing"]),
        ("actions", "no list", None),
        ("actions", "[]\nHello.", ["Hello."]),
        ("actions", "[]", []),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_what_is_no_call_is_text_as_it_was_written(
    name: str, text: str, shown: list[str] | None, size: int
) -> None:
    reader = format_of(name, None).reader(used())
    pieces = [piece for at in range(0, len(text), size) for piece in reader.push(text[at : at + size])]
    assert joined([*pieces, *reader.finish()]) == ([text] if shown is None else shown)


def test_a_model_without_a_format_is_asked_in_hermes_words() -> None:
    form = choose("{{ messages }}", lambda _text: None)
    call = {"id": "1", "type": "function", "function": {"name": "get_time", "arguments": {}}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "what time is it?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "12:00"},
    ]
    shown = form.conversation(messages, used())
    assert shown.tools is None
    system, _, assistant, result = (str(one["content"]) for one in shown.messages)
    assert system.startswith("Be brief.\n\n# Tools")
    assert '"name": "get_weather"' in system
    assert assistant == '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
    assert result == "<tool_response>\n12:00\n</tool_response>"
    assert [one["role"] for one in shown.messages] == ["system", "user", "assistant", "user"]
    assert form.conversation(messages[1:2], used()).messages[0]["role"] == "system"


def test_mistrals_templates_get_ids_of_nine_characters() -> None:
    form = format_of("mistral", None)
    calls = [
        {"id": id, "function": {"name": "get_time", "arguments": {}}} for id in ("call_1_0", "abcdefghi")
    ]
    shown = form.conversation(
        [{"role": "assistant", "tool_calls": calls}, {"role": "tool", "tool_call_id": "call_1_0"}], None
    )
    found: Any = shown.messages
    assert [len(one["id"]) for one in found[0]["tool_calls"]] == [9, 9]
    assert found[0]["tool_calls"][1]["id"] == "abcdefghi"
    assert found[1]["tool_call_id"] == found[0]["tool_calls"][0]["id"]
