"""A grammar over twelve tokens, as many as the fakes have, with the real engine: lists in lists."""

from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from cloud_worker.grammars import WorkerGrammars
from common.grammar.answer import AnswerMasks
from common.grammar.engine import GrammarEngine
from common.protocol.grammar import AnswerGrammar, Grammar

TOKENS = ("a", "b", "c", "ab", "bc", "ca", "[", "]", ",", "abc", "x", "<end>")
END = TOKENS.index("<end>")
UNUSED = TOKENS.index("x")  # the grammar has no such text
LISTS = Grammar.lark('start: "[" item ("," item)* "]"\nitem: "abcabc" | "ca" | /[ab]{2,3}/ | start')
CONSTANT = Grammar.regex(r"\[abc,abc,ca\]")


@cache
def make_tokenizer() -> Tokenizer:
    """A byte-level BPE of these tokens alone."""
    vocabulary = {token: index for index, token in enumerate(TOKENS[:-1])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("a", "b"), ("b", "c"), ("c", "a"), ("ab", "c")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([TOKENS[-1]])
    return tokenizer


@cache
def toy_grammars() -> WorkerGrammars:
    """What compiles them at all workers."""
    return WorkerGrammars(make_tokenizer)


@cache
def _at_the_device() -> GrammarEngine:
    return GrammarEngine(make_tokenizer)


def given(grammar: Grammar, num_prompt: int, end_ids: frozenset[int]) -> AnswerGrammar:
    """The grammar as a device's opening has it."""
    return AnswerGrammar(grammar, toy_grammars().engine, num_prompt, tuple(sorted(end_ids)))


def masks(grammar: AnswerGrammar) -> AnswerMasks:
    """What forbids tokens at the device."""
    matcher = _at_the_device().compile(grammar.grammar)
    return AnswerMasks(matcher, grammar.num_prompt, grammar.end_ids, closing=grammar.end_ids[0])
