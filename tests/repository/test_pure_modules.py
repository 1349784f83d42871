"""A module that calls itself pure is in the pure contract of pyproject.toml, and is pure.

`lint-imports` checks the contract through all imports; only this test knows which modules claim to be pure.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("common", "edge_agent", "cloud_worker", "evaluation", "mosquitto/provisioning")
CLAIM = re.compile(r"\bpure\b(?! functions?\b)|\bvalues only\b", re.IGNORECASE)
LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
(CONTRACT,) = (each for each in LINTER["contracts"] if each["name"].startswith("Pure modules"))


def module_name(path: Path) -> str:
    """`a/b.py` is a.b, `a/b/__init__.py` is a.b too."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def is_covered(name: str) -> bool:
    """Whether the contract names this module or a package that it is in."""
    return any(f"{name}.".startswith(f"{each}.") for each in CONTRACT["source_modules"])


def imports(tree: ast.Module) -> Iterator[str]:
    """What a module imports, wherever the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."


def test_every_module_that_claims_to_be_pure_is_in_the_contract() -> None:
    docstrings = {name: ast.get_docstring(ast.parse(path.read_text())) for name, path in MODULES.items()}
    claiming = {name for name, text in docstrings.items() if CLAIM.search(text or "")}
    assert len(claiming) > 40
    assert [name for name in sorted(claiming) if not is_covered(name)] == []


def test_no_pure_module_imports_what_the_contract_forbids() -> None:
    forbidden = set(CONTRACT["forbidden_modules"])
    found = {
        f"{name} -> {each}"
        for name, path in MODULES.items()
        if is_covered(name)
        for each in imports(ast.parse(path.read_text()))
        if each.partition(".")[0] in forbidden
    }
    assert found == set(CONTRACT["ignore_imports"])
