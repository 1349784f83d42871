"""What the schema of the home costs and saves: the table, and the grammars that are compared."""

from pathlib import Path

from common.protocol.grammar import GrammarKind
from evaluation.structured.answering import Answered, variants
from evaluation.structured.page import write_page


def answers(passes: int, size: int) -> list[Answered]:
    return [Answered(True, True, 30, 30 - passes, passes, 2, size, 100, 1.5) for _ in range(4)]


def test_the_table_has_both_and_the_difference(tmp_path: Path) -> None:
    plain, constrained = variants()[:2]
    found = {plain: answers(30, 300), constrained: answers(10, 250)}
    text = write_page(tmp_path, "Two commands.", found, 2)
    assert "| draft passes | 30.0 (30.0 to 30.0) | 10.0 (10.0 to 10.0) | -66.7% (-66.7% to -66.7%) |" in text
    assert "| bytes up and down | 400 (400 to 400) | 350 (350 to 350) | -12.5% (-12.5% to -12.5%) |" in text
    assert "| forced tokens | 0.0% (0.0% to 0.0%) | 66.7% (66.7% to 66.7%) | - |" in text
    assert text in (tmp_path / "structured-output.md").read_text()


def test_each_pair_of_variants_differs_in_the_schema_alone() -> None:
    found = variants()
    for without, with_it in zip(found[::2], found[1::2], strict=True):
        assert without.what == with_it.what
        assert (without.with_schema, without.grammar, with_it.with_schema) == (False, None, True)
        assert with_it.grammar is not None
    assert found[1].grammar is not None
    assert found[1].grammar.kind is GrammarKind.JSON_SCHEMA
