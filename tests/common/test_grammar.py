"""The engine alone: masks are a function of the tokens, and no source does harm."""

import json
import random
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from common.grammar.answer import AnswerMasks
from common.grammar.engine import GrammarEngine
from common.grammar.errors import GrammarSourceError, UnusableGrammarError
from common.grammar.matcher import Matcher
from common.grammar.vocabulary import Vocabulary
from common.protocol.grammar import MAX_GRAMMAR_BYTES, Grammar
from common.sampling.mask import forbid, num_words, only_token, unpack
from edge_agent.draft_model.files import DEMO_FOLDER
from tests.support.narrowing import present
from tests.support.schemas import SCHEMAS

TOKENIZER = Tokenizer.from_file(str(DEMO_FOLDER / "tokenizer.json"))
ENGINE = GrammarEngine(lambda: TOKENIZER)
SIZE = 1280
END = 3
GRAMMARS = [
    *map(Grammar.json_schema, SCHEMAS.values()),
    Grammar.regex(r"(on|off|dim [0-9]{1,3}%)(, (on|off))*"),
    Grammar.lark('start: "<|user|>" call | call+\ncall: /[a-z]{1,5}/ "(" call? ")"'),
]


def walk(matcher: Matcher, seed: int, length: int = 40) -> list[int]:
    """A random text that the grammar allows."""
    rng, tokens = random.Random(seed), list[int]()
    while len(tokens) < length:
        mask, may_end = present(matcher.allowed(tokens))
        ids = np.flatnonzero(unpack(mask, SIZE)).tolist()
        if not ids or (may_end and rng.random() < 0.2):
            break
        tokens.append(rng.choice(ids))
    return tokens


@pytest.mark.parametrize("grammar", GRAMMARS, ids=range(len(GRAMMARS)))
@given(seed=st.integers(0, 1000), order=st.lists(st.integers(0, 40), max_size=12))
@settings(max_examples=15)
def test_what_is_allowed_is_a_function_of_the_tokens_in_whatever_order_it_is_asked(
    grammar: Grammar, seed: int, order: list[int]
) -> None:
    text = walk(ENGINE.compile(grammar), seed)
    asked = ENGINE.compile(grammar)
    for place in order:
        before = text[: min(place, len(text))]
        fresh = present(ENGINE.compile(grammar).allowed(before))
        found = present(asked.allowed(before))
        assert np.array_equal(found[0], fresh[0])
        assert found[1] == fresh[1]


@given(seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_a_forbidden_token_forbids_the_text_and_leaves_the_matcher_as_it_was(seed: int) -> None:
    matcher = ENGINE.compile(GRAMMARS[0])
    text = walk(matcher, seed, 12)
    mask, _ = present(matcher.allowed(text))
    wrong = np.flatnonzero(~unpack(mask, SIZE))[seed % 100].item()
    assert matcher.allowed([*text, wrong, 5]) is None
    assert matcher.allowed([*text, SIZE + 7]) is None
    assert np.array_equal(present(matcher.allowed(text))[0], mask)


def test_an_answer_may_end_where_the_grammar_may_and_a_complete_one_only_ends() -> None:
    masks = AnswerMasks(ENGINE.compile(Grammar.regex("(on)+!?")), 2, [END, 0], closing=END)
    on, bang = TOKENIZER.encode("on").ids, TOKENIZER.encode("!").ids
    assert len(on) == len(bang) == 1
    prompt = [1, 2]

    def ids(*tokens: int) -> list[int]:
        text = [*prompt, *tokens]
        return np.flatnonzero(unpack(present(masks.mask(text, len(text))), SIZE)).tolist()

    assert not {END, 0} & set(ids())
    assert {END, 0, *bang} < set(ids(*on))
    assert ids(*on, *bang) == [END]
    assert masks.forced([*prompt, *on, *bang], 9) == [END]
    assert unpack(present(masks.mask(prompt, 1)), SIZE).all()


def test_forced_tokens_are_exactly_those_that_are_alone_in_their_mask() -> None:
    masks = AnswerMasks(ENGINE.compile(GRAMMARS[0]), 0, [END], closing=END)
    run = masks.forced([], 100)
    assert TOKENIZER.decode(run) == '[{"device":"'
    for place in range(len(run)):
        assert only_token(present(masks.mask(run, place))) == run[place]
    assert only_token(present(masks.mask(run, len(run)))) is None
    assert masks.forced([], 1) == run[:1]


@given(st.integers(1, 100), st.data())
def test_a_mask_packs_a_bit_for_each_token(size: int, data: st.DataObject) -> None:
    bits = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    packed = np.packbits(np.pad(bits, (0, num_words(size) * 32 - size)), bitorder="little").view(np.uint32)
    assert np.array_equal(unpack(packed, size), bits)
    allowed = np.flatnonzero(bits)
    assert only_token(packed) == (int(allowed[0]) if len(allowed) == 1 else None)
    row = np.arange(size, dtype=np.float32)
    assert np.array_equal(np.isfinite(forbid(row, packed)), bits)


# -- the vocabulary ------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_a_text_is_tokenised_to_its_own_bytes_without_special_tokens(text: str) -> None:
    vocabulary = Vocabulary(TOKENIZER)
    for one in (text, f"{text}<|end|>{text}"):
        ids = present(vocabulary.encode(one))
        assert b"".join(vocabulary.tokens[token] for token in ids) == one.encode()
        assert not set(ids) & set(vocabulary.specials)


def test_a_constant_with_the_text_of_a_special_token_is_spelled_out() -> None:
    masks = AnswerMasks(ENGINE.compile(Grammar.json_schema({"const": "a<|end|>b"})), 0, [END], closing=END)
    run = masks.forced([], 100)
    assert run[-1] == END not in run[:-1]
    assert TOKENIZER.decode(run) == '"a<|end|>b"'


def test_a_vocabulary_with_byte_tokens_gives_the_bytes_of_its_pieces() -> None:
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁on", "on", "é"]
    model = models.BPE({piece: i for i, piece in enumerate(pieces)}, [("▁", "on")], byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    vocabulary = Vocabulary(tokenizer)
    assert vocabulary.tokens[pieces.index("<0x0A>")] == b"\n"
    assert vocabulary.tokens[pieces.index("▁on")] == b" on"
    assert vocabulary.tokens[pieces.index("é")] == "é".encode()
    assert vocabulary.encode("on") is None  # this tokenizer puts a space before it
    matcher = GrammarEngine(lambda: tokenizer).compile(Grammar.regex("on on"))
    masks = AnswerMasks(matcher, 0, [0], closing=0)
    run = masks.forced([], 20)
    assert b"".join(vocabulary.tokens[token] for token in run[:-1]) == b"on on"


def test_a_tokenizer_whose_tokens_are_no_bytes_is_refused() -> None:
    words = Tokenizer(models.WordLevel({"on": 0, "off": 1}, "on"))
    with pytest.raises(UnusableGrammarError, match="not bytes"):
        GrammarEngine(lambda: words).compile(Grammar.regex("on"))


def test_the_name_of_an_engine_tells_tokenizers_apart() -> None:
    other = Tokenizer.from_file(str(DEMO_FOLDER / "tokenizer.json"))
    assert GrammarEngine(lambda: other).name == ENGINE.name
    other.add_special_tokens(["<|call|>"])
    assert GrammarEngine(lambda: other).name != ENGINE.name


# -- hostile sources -----------------------------------------------------------------------------------


def refs(link: Callable[[int], object], count: int) -> str:
    definitions = {f"d{i}": link(i + 1) for i in range(count)} | {f"d{count}": {"type": "integer"}}
    return json.dumps({"$ref": "#/d/d0", "d": definitions}, separators=(",", ":"))


def json_source(text: str) -> Grammar:
    return Grammar(Grammar.json_schema(True).kind, text)


def chain(count: int, prefix: str, left: str = "", right: str = "") -> Grammar:
    rules = "\n".join(f"{prefix}{i}: {left}{prefix}{i + 1}{right}" for i in range(count))
    return Grammar.lark(f'start: {prefix}0\n{rules}\n{prefix}{count}: "x"')


HOSTILE = {
    "too long": Grammar.regex("a" * (MAX_GRAMMAR_BYTES + 1)),
    "deep schema": json_source('{"items":' * 5000 + "{}" + "}" * 5000),
    "deep JSON": json_source("[" * 60_000),
    "not JSON": json_source("{"),
    "false": Grammar.json_schema(False),
    "a list": json_source("[1]"),
    "surrogates": Grammar.json_schema({"const": "\ud800"}),
    "an address": Grammar.json_schema({"$ref": "http://localhost:1/schema.json"}),
    "itself": Grammar.json_schema({"$ref": "#"}),
    "references": json_source(refs(lambda i: {"items": {"$ref": f"#/d/d{i}"}}, 1500)),
    "unions": json_source(refs(lambda i: {"anyOf": [{"$ref": f"#/d/d{i}"}, {"type": "null"}]}, 1000)),
    "many values": Grammar.json_schema({"enum": [f"v{i:06d}" for i in range(5500)]}),
    "many properties": Grammar.json_schema(
        {"properties": {f"p{i}": {"type": "integer"} for i in range(1800)}}
    ),
    "long string": Grammar.json_schema({"type": "string", "minLength": 10**6}),
    "long array": Grammar.json_schema({"type": "array", "minItems": 10**6}),
    "huge numbers": json_source('{"type":"integer","minimum":-1e300,"maximum":1e300}'),
    "nested repeats": Grammar.regex("((((a|b){1,60}c){1,60}d){1,60}e){1,60}"),
    "exponential": Grammar.regex("(a|b)*a(a|b){40}"),
    "deep regex": Grammar.regex("(" * 30_000 + "a" + ")" * 30_000),
    "no regex": Grammar.regex("[" * 30_000),
    "deep rule": Grammar.lark("start: " + "(" * 30_000 + '"a"' + ")" * 30_000),
    "chain of rules": chain(4800, "r"),
    "chain of terminals": chain(4800, "T"),
    "chain of nested rules": chain(1200, "r", "(" * 20, ")" * 20),
    "ambiguous": Grammar.lark('start: s\ns: s s s | s s | "a" | "b" | /[a-z]+/'),
    "wide": Grammar.lark("start: " + '"a"|' * 4000 + '"b"'),
    "nothing": Grammar.lark(""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_source_ends_the_process_or_says_more_than_a_line(name: str) -> None:
    lines: list[str] = []
    try:
        walk(ENGINE.compile(HOSTILE[name]), 1, 20)
    except GrammarSourceError as error:
        lines.append(str(error))
    assert all(0 < len(line) < 300 and "\n" not in line for line in lines)


def test_the_message_for_a_regular_expression_names_the_cause() -> None:
    with pytest.raises(GrammarSourceError, match="unclosed group"):
        ENGINE.compile(Grammar.regex("a(b"))


def test_llguidance_is_loaded_with_the_first_grammar_only() -> None:
    program = (
        "import sys, edge_agent.agent, cloud_worker.grammars; assert 'llguidance' not in sys.modules;"
        "from tests.common.test_grammar import ENGINE, GRAMMARS; assert 'llguidance' not in sys.modules;"
        "ENGINE.compile(GRAMMARS[0]); assert 'llguidance' in sys.modules;"
        "assert 'llguidance.hf' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
