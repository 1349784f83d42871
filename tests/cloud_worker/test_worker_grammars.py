"""What a worker holds of grammars: bounded per device and in all, compiled in turn, by digest."""

import asyncio
import time
from dataclasses import replace

import pytest

from cloud_worker.grammars import MAX_BYTES, MAX_BYTES_PER_DEVICE, Compiling, WorkerGrammars
from cloud_worker.scheduling.costs import CostKind, Costs
from cloud_worker.scheduling.fair_queue import SessionKey
from common.grammar.errors import GrammarsFullError, UnknownGrammarError
from common.protocol.grammar import MAX_GRAMMAR_BYTES, AnswerGrammar, Grammar
from common.protocol.messages import Draft
from tests.support.fakes import opening
from tests.support.toy_grammar import END, make_tokenizer

NO_ENDS: frozenset[int] = frozenset()


def large(number: int, size: int = MAX_GRAMMAR_BYTES) -> Grammar:
    """A simple grammar with a long comment."""
    source = f'start: "a" // {number} '
    return Grammar.lark(source + "x" * (size - len(source)))


def given(grammars: WorkerGrammars, grammar: Grammar) -> AnswerGrammar:
    return AnswerGrammar(grammar, grammars.engine, 1, (END,))


def test_what_one_device_uses_is_bounded_and_leaves_room_for_others() -> None:
    grammars = WorkerGrammars(make_tokenizer)
    most = MAX_BYTES_PER_DEVICE // MAX_GRAMMAR_BYTES
    held = [grammars.masks(given(grammars, large(i)), NO_ENDS, "greedy") for i in range(most)]
    with pytest.raises(GrammarsFullError):
        grammars.masks(given(grammars, large(99)), NO_ENDS, "greedy")
    held.append(grammars.masks(given(grammars, large(0)), NO_ENDS, "greedy"))  # one that it uses already
    held.append(grammars.masks(given(grammars, large(99)), NO_ENDS, "other"))
    del held[0], held[0]
    held.append(grammars.masks(given(grammars, large(98)), NO_ENDS, "greedy"))


def test_what_all_devices_use_is_bounded_and_what_is_over_counts_no_more() -> None:
    grammars = WorkerGrammars(make_tokenizer)
    most = MAX_BYTES // MAX_GRAMMAR_BYTES
    held = [grammars.masks(given(grammars, large(i)), NO_ENDS, f"d{i}") for i in range(most)]
    with pytest.raises(GrammarsFullError):
        grammars.masks(given(grammars, large(99)), NO_ENDS, "late")
    held.clear()
    grammars.masks(given(grammars, large(99)), NO_ENDS, "late")


def test_a_digest_stands_for_what_was_sent_before_and_for_nothing_else() -> None:
    grammars = WorkerGrammars(make_tokenizer)
    own = given(grammars, Grammar.regex("ab+"))
    with pytest.raises(UnknownGrammarError):
        grammars.masks(own.briefly, NO_ENDS)
    whole = grammars.masks(own, NO_ENDS)
    brief = grammars.masks(own.briefly, NO_ENDS)
    for position in (1, 2):
        assert (whole.mask([7, 0], position) == brief.mask([7, 0], position)).all()  # type: ignore[union-attr]


def test_light_devices_are_compiled_for_first_and_each_pays_for_its_own() -> None:
    async def scenario() -> tuple[list[str], Costs]:
        grammars, costs = WorkerGrammars(make_tokenizer), Costs()
        engine = grammars.engine
        costs.charge("heavy", CostKind.JUDGING, 9.0, time.monotonic())
        compiling, order = Compiling(grammars, costs), list[str]()
        names = ["heavy", "heavy", "light", "other"]
        for number, name in enumerate(names):
            grammar = AnswerGrammar(large(number, 2000), engine, 1, (END,))
            draft = Draft(0, 0, 0, (1,), (), 1, opening=replace(opening(), grammar=grammar))
            assert compiling.is_needed(draft)
            compiling.begin(SessionKey(name, str(number)), draft, lambda name=name: order.append(name))
        assert not compiling.has_room("heavy")
        compiling.drop(SessionKey("heavy", "1"))
        while len(order) < 3:
            await asyncio.sleep(0)
        return order, costs

    order, costs = asyncio.run(scenario())
    assert order == ["light", "other", "heavy"]
    assert costs.seconds[CostKind.COMPILING] > 0.0
