"""The faults that can be planted in a module, and a fixed sample of them. Cosmic Ray finds and plants them.

Changes that prove nothing are left out: those of annotations and of class decorators, and those that exchange
kinds of operators (`a < b` for `a is b`, `a * b` for `a << b`), which nearly always end in a TypeError.
"""

import ast
import difflib
import importlib
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

ARITHMETIC = ("Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow")
LEFT_OUT = ("core/RemoveDecorator", "core/VariableReplacer", "core/VariableInserter", "core/NoOp")

T = TypeVar("T")
Place = tuple[int, int]  # line from 1, column from 0


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module: the `occurrence`-th place of an operator of Cosmic Ray, at `begin`."""

    path: str
    operator: str
    occurrence: int
    begin: Place

    def source(self, root: Path) -> str:
        """The module with the change."""
        original = (root / self.path).read_text(encoding="utf-8")
        return _library("cosmic_ray.mutating").mutate_code(
            original, _operator(self.operator), self.occurrence
        )

    def is_python(self, root: Path) -> bool:
        """Whether the module can still be parsed; `def f(*, a)` may have become `def f(**, a)`."""
        try:
            ast.parse(self.source(root))
        except SyntaxError:
            return False
        return True

    def shown(self, root: Path) -> str:
        """The changed lines, before and after."""
        original = (root / self.path).read_text(encoding="utf-8")
        changes = difflib.unified_diff(
            original.splitlines(), self.source(root).splitlines(), n=0, lineterm=""
        )
        lines = [line for line in changes if not line.startswith(("---", "+++", "@@"))]
        return "\n".join([f"survived: {self.path}:{self.begin[0]}", *(f"  {line}" for line in lines)])


def find_mutants(root: Path, paths: Iterable[str]) -> Iterator[Mutant]:
    """Every change of the modules at these paths."""
    names = [name for name in _library("cosmic_ray.plugins").operator_names() if _is_telling(name)]
    syntax = _library("cosmic_ray.ast")
    for path in paths:
        source = (root / path).read_text(encoding="utf-8")
        nodes = list(syntax.ast_nodes(syntax.get_ast(source)))
        left_out = list(_left_out(source))
        for name in names:
            places = (each for node in nodes for each in _operator(name).mutation_positions(node))
            for occurrence, (begin, _) in enumerate(places):
                if not any(first <= begin < last for first, last in left_out):
                    yield Mutant(path, name, occurrence, begin)


def sample(mutants: list[tuple[T, Mutant]], count: int | None, seed: int) -> list[tuple[T, Mutant]]:
    """`count` places, each with one of its changes; None: all changes of all places."""
    if count is None:
        return mutants
    rng = random.Random(seed)
    places: dict[tuple[str, Place], list[tuple[T, Mutant]]] = {}
    for each in mutants:
        places.setdefault((each[1].path, each[1].begin), []).append(each)
    chosen = rng.sample(sorted(places), min(count, len(places)))
    return [rng.choice(places[place]) for place in chosen]


def _is_telling(name: str) -> bool:
    if name in LEFT_OUT:
        return False
    match = re.fullmatch(r"core/Replace(Binary|Comparison)Operator_(\w+)_(\w+)", name)
    if match is None:
        return True
    kind, old, new = match.groups()
    if kind == "Binary":
        return (old in ARITHMETIC) == (new in ARITHMETIC)
    return old.startswith("Is") == new.startswith("Is")


def _left_out(source: str) -> Iterator[tuple[Place, Place]]:
    """Where the types of a module and the decorators of its classes stand."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign):
            yield _span(node.annotation)
            if isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias" and node.value:
                yield _span(node.value)
        elif isinstance(node, ast.arg) and node.annotation:
            yield _span(node.annotation)
        elif isinstance(node, ast.FunctionDef) and node.returns:
            yield _span(node.returns)
        elif isinstance(node, ast.ClassDef):
            yield from map(_span, node.decorator_list)


def _span(node: ast.expr) -> tuple[Place, Place]:
    return (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)


@cache
def _operator(name: str) -> Any:
    return _library("cosmic_ray.plugins").get_operator(name)()


def _library(name: str) -> Any:
    """A module of Cosmic Ray, which only the extra `mutation` installs: the type checks do without it."""
    return importlib.import_module(name)
