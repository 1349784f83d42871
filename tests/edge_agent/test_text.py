"""Text and tokens: streams that add up, stop strings that never show, templates as in transformers."""

# how much a stream decodes shows only inside
# pyright: reportPrivateUsage=false

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

from common.protocol.fingerprint import fingerprint
from edge_agent.draft_model.files import read_info
from edge_agent.errors import ModelError, PromptError
from edge_agent.text.chat_template import ChatTemplate
from edge_agent.text.tokenizer import StopStrings, Text, TextStream
from tests.support.narrowing import present
from tests.support.small_models import CHAT_TEMPLATE, CORPUS, FAMILIES, VOCAB_SIZE, FolderOf, make_tokenizer

BYTE_LEVEL = make_tokenizer()
SPECIAL_IDS = set(BYTE_LEVEL.get_added_tokens_decoder())
TEXT = Text(BYTE_LEVEL, ChatTemplate(CHAT_TEMPLATE, {"bos_token": "<s>", "eos_token": "</s>"}))


def sentencepiece_like() -> Tokenizer:
    """Pieces with a mark for a space, and a token for each byte: as Llama 2 and Gemma have them."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁the", "▁cat", "s", "at", "▁é"]
    tokenizer = Tokenizer(
        models.BPE({piece: index for index, piece in enumerate(pieces)}, [], byte_fallback=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def streamed(tokenizer: Tokenizer, prompt: list[int], completion: list[int]) -> str:
    stream = TextStream(tokenizer, prompt)
    return "".join([*(stream.push(token) for token in completion), stream.flush()])


tokens = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=40)


@given(prompt=tokens, completion=tokens)
def test_the_pieces_of_a_stream_add_up_to_the_whole(prompt: list[int], completion: list[int]) -> None:
    before = BYTE_LEVEL.decode(prompt)
    before = before.rstrip("�") if completion else before
    assert before + streamed(BYTE_LEVEL, prompt, completion) == BYTE_LEVEL.decode(prompt + completion)


@given(text=st.text(max_size=40), prompt=st.text(max_size=10))
def test_any_text_comes_through_a_stream_unchanged(text: str, prompt: str) -> None:
    completion = BYTE_LEVEL.encode(text, add_special_tokens=False).ids
    assume(not SPECIAL_IDS & set(completion))  # the text of a special token is encoded as that token
    assert streamed(BYTE_LEVEL, BYTE_LEVEL.encode(prompt).ids, completion) == text


@given(completion=st.lists(st.integers(0, 262), max_size=30))
def test_no_tokens_at_all_can_break_a_stream(completion: list[int]) -> None:
    streamed(sentencepiece_like(), [258], completion)


@given(words=st.lists(st.sampled_from(["▁the", "▁cat", "s", "at", "▁é"]), min_size=1, max_size=12))
def test_a_sentencepiece_stream_keeps_its_spaces(words: list[str]) -> None:
    tokenizer = sentencepiece_like()
    ids = [present(tokenizer.token_to_id(word)) for word in words]
    assert streamed(tokenizer, ids[:1], ids[1:]) == tokenizer.decode(ids)[len(tokenizer.decode(ids[:1])) :]


def test_a_character_of_several_tokens_comes_out_at_once() -> None:
    stream = TextStream(BYTE_LEVEL, BYTE_LEVEL.encode("x").ids)
    ids = BYTE_LEVEL.encode("𝄞!", add_special_tokens=False).ids
    assert len(ids) == 5
    assert [stream.push(token) for token in ids] == ["", "", "", "𝄞", "!"]
    assert stream.flush() == ""


def test_a_prompt_that_ends_within_a_character_does_not_come_out_again() -> None:
    ids = BYTE_LEVEL.encode("abc 𝄞").ids
    stream = TextStream(BYTE_LEVEL, ids[:-2])
    assert stream.flush() == ""
    assert [stream.push(token) for token in ids[-2:]] == ["", "𝄞"]


@pytest.mark.parametrize("prompt", ["abc �", "�", "��", "x�<|assistant|>", "é�</s>"])
@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, sentencepiece_like()], ids=["bytes", "pieces"])
def test_a_replacement_character_typed_in_the_prompt_does_not_come_out_again(
    tokenizer: Tokenizer, prompt: str
) -> None:
    stream = TextStream(tokenizer, tokenizer.encode(prompt).ids)
    answer = tokenizer.encode("s", add_special_tokens=False).ids
    assert "".join([*(stream.push(token) for token in answer), stream.flush()]).strip() == "s"
    assert TextStream(tokenizer, tokenizer.encode(prompt).ids).flush() == ""


def test_a_replacement_character_that_the_model_writes_is_shown_once() -> None:
    ids = BYTE_LEVEL.encode("a�", add_special_tokens=False).ids
    assert streamed(BYTE_LEVEL, BYTE_LEVEL.encode("�").ids, ids) == "a�"
    assert streamed(BYTE_LEVEL, BYTE_LEVEL.encode("�").ids, [*ids, *ids]) == "a�a�"


def test_a_long_stream_decodes_no_more_than_its_last_pieces() -> None:
    stream = TextStream(BYTE_LEVEL, [])
    for token in BYTE_LEVEL.encode(CORPUS[0] * 5).ids:
        stream.push(token)
        assert len(stream._window) <= 2


def test_what_is_no_character_appears_at_the_end() -> None:
    first = BYTE_LEVEL.encode("𝄞", add_special_tokens=False).ids[:2]
    assert streamed(BYTE_LEVEL, [], first) == "�"


def test_special_tokens_do_not_show() -> None:
    assert streamed(BYTE_LEVEL, [0], [*TEXT.encode("on"), 1]) == "on"


def parts(text: str, cuts: list[int]) -> list[str]:
    borders = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(borders)]


@given(
    text=st.text("abc", max_size=30),
    stops=st.lists(st.text("abc", max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 100), max_size=8),
)
def test_stop_strings_cut_alike_however_the_text_arrives(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    def shown(pieces: list[str]) -> tuple[str, bool]:
        stopper = StopStrings(stops)
        out = "".join(stopper.push(piece) for piece in pieces)
        return out + stopper.flush(), stopper.stopped

    result, stopped = shown(parts(text, cuts))
    assert (result, stopped) == shown(list(text))
    assert stopped == any(stop and stop in text for stop in stops)
    assert text.startswith(result)
    if not stopped:
        assert result == text


@given(text=st.text("ab", max_size=20), stop=st.text("ab", min_size=1, max_size=4))
def test_nothing_is_held_that_could_be_shown(text: str, stop: str) -> None:
    stopper = StopStrings([stop])
    shown = "".join(stopper.push(letter) for letter in text)
    if not stopper.stopped:
        held = text[len(shown) :]
        assert stop.startswith(held)
        assert not any(stop.startswith(text[start:]) for start in range(len(shown)))


def test_the_earliest_stop_string_wins() -> None:
    stopper = StopStrings(["END", "\n\n"])
    assert [stopper.push(piece) for piece in ("one E", "ND two\n\n", "three")] == ["one ", "", ""]
    assert stopper.stopped
    assert stopper.flush() == ""


def test_the_stop_string_that_is_complete_first_wins_over_one_around_it() -> None:
    assert StopStrings(["abcd", "bc"]).push("abcd") == "a"


def test_of_two_stop_strings_that_end_together_the_longer_one_cuts() -> None:
    assert StopStrings(["d", "bcd"]).push("abcd") == "a"


def test_a_beginning_that_leads_nowhere_is_shown_after_all() -> None:
    stopper = StopStrings(["END"])
    assert [stopper.push(piece) for piece in ("E", "N", "O", "EN")] == ["", "", "ENO", ""]
    assert stopper.flush() == "EN"


SPELLED = ("<b>", "<>")  # special tokens; everything else is a visible character


def cut_by_hand(atoms: list[str], stops: list[str]) -> tuple[str, bool]:
    """The text before the stop string that is complete first, and of those the longest one."""

    def visible(some: list[str]) -> str:
        return "".join(atom for atom in some if atom not in SPELLED)

    for end in range(1, len(atoms) + 1):
        seen = atoms[:end]
        starts = [len(visible(seen)) - len(stop) for stop in stops if visible(seen).endswith(stop)]
        starts = starts if atoms[end - 1] not in SPELLED else []
        starts += [len(visible(seen[:i])) for i in range(end) if "".join(seen[i:]) in stops]
        if starts:
            return visible(seen)[: min(starts)], True
    return visible(atoms), False


@given(
    atoms=st.lists(st.sampled_from([*"ab<>", *SPELLED]), max_size=14),
    stops=st.lists(st.text("ab<>", min_size=1, max_size=5), min_size=1, max_size=3),
)
def test_stop_strings_may_name_special_tokens_which_never_show(atoms: list[str], stops: list[str]) -> None:
    stopper = StopStrings(stops)
    shown = ""
    for atom in atoms:
        shown += stopper.push_special(atom) if atom in SPELLED else stopper.push(atom)
    assert (shown + stopper.flush(), stopper.stopped) == cut_by_hand(atoms, stops)


def test_a_stop_string_does_not_match_within_a_special_token() -> None:
    stopper = StopStrings(["|", "end|>x"])
    assert [stopper.push_special("<|end|>"), stopper.push("x")] == ["", "x"]
    assert not stopper.stopped


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_are_the_tokens_of_transformers(family: str, family_folder: FolderOf) -> None:
    folder = family_folder(family)
    reference = AutoTokenizer.from_pretrained(folder)
    text = Text(Tokenizer.from_file(str(folder / "tokenizer.json")))
    for prompt in CORPUS:
        assert text.encode(prompt) == reference(prompt)["input_ids"]
        assert text.decode(text.encode(prompt)) == prompt


def test_a_conversation_has_the_tokens_of_transformers(
    family_folder: FolderOf, twin_folder: FolderOf
) -> None:
    reference = AutoTokenizer.from_pretrained(family_folder("llama"))
    text = Text.load(read_info(twin_folder("llama")))
    messages = [
        {"role": "user", "content": "  Is the window open? "},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Close it, s'il te plaît."},
    ]
    expected = reference.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert text.has_chat_template
    assert text.chat_prompt(messages) == expected


TRICKY = """{%- set ns = namespace(seen=0) -%}
{%- for message in messages %}
    {%- if message.role == 'skip' %}{% continue %}{% endif %}
    {%- set ns.seen = ns.seen + 1 %}
    {% generation %}{{ message | tojson }}{% endgeneration %}
  {% if tools %}
{{ tools | tojson(indent=2) }}
  {% endif %}
{% endfor %}
{{ ns.seen }} {{ strftime_now('%Y') | length }} {{ documents is none }} {{ bos_token }}"""


def test_templates_render_as_in_transformers() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    messages: list[dict[str, object]] = [
        {"role": "user", "content": "<b>é</b> & 'so'"},
        {"role": "skip", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "1"}]},
    ]
    tools: list[Any] | None
    for tools in (None, [{"type": "function", "function": {"name": "f"}}]):
        rendered, _ = render_jinja_template(
            [messages], tools=tools, chat_template=TRICKY, add_generation_prompt=True, bos_token="<s>"
        )
        assert ChatTemplate(TRICKY, {"bos_token": "<s>"}).render(messages, tools=tools) == rendered[0]


@pytest.mark.parametrize(
    ("template", "messages", "reason"),
    [
        (CHAT_TEMPLATE, [{"role": "system", "content": "x"}], "only user and assistant speak here"),
        ("{{ messages[0].content + 1 }}", [{"role": "user", "content": "x"}], "refuses these messages"),
        ("{{ messages.__class__.__base__ }}", [], "unsafe"),
        ("{{ messages.append(1) }}", [], "unsafe|immutable|modif"),
        ("{{ messages[0].content.read_text() }}", [{"content": Path(__file__)}], "refuses these messages"),
    ],
)
def test_what_a_template_refuses_is_one_sentence(
    template: str, messages: list[dict[str, object]], reason: str
) -> None:
    with pytest.raises(PromptError, match=reason) as caught:
        ChatTemplate(template, {}).render(messages, tools=None)
    assert "\n" not in str(caught.value)


def test_a_broken_template_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        ChatTemplate("{% if %}", {})


def test_a_model_without_a_template_says_so() -> None:
    with pytest.raises(PromptError, match="no chat template"):
        Text(make_tokenizer()).chat_prompt([{"role": "user", "content": "x"}])


def test_the_vocabulary_has_a_size_and_a_name() -> None:
    assert TEXT.vocab_size == VOCAB_SIZE
    assert TEXT.fingerprint == fingerprint(make_tokenizer().get_vocab())


def test_padding_and_truncation_left_in_a_tokenizer_are_switched_off() -> None:
    tokenizer = make_tokenizer()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=32)
    text = Text(tokenizer)
    assert text.encode(CORPUS[0]) == TEXT.encode(CORPUS[0])
    assert text.encode("x") == TEXT.encode("x")


def test_a_missing_or_broken_tokenizer_is_one_sentence(twin_folder: FolderOf, tmp_path: Path) -> None:
    for name in ("config.json", "model.onnx"):
        (tmp_path / name).write_bytes((twin_folder("llama") / name).read_bytes())
    info = read_info(tmp_path)
    with pytest.raises(ModelError, match=r"There is no .*tokenizer\.json"):
        Text.load(info)
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(ModelError, match="is not a tokenizer") as caught:
        Text.load(info)
    assert "\n" not in str(caught.value)
