"""What `make mutation` changes is pure, its tests are there, and its sample is fixed."""

import pytest

from benchmarks.mutation.mutants import Mutant, sample
from benchmarks.mutation.suites import SUITES, Suite
from tests.repository.test_pure_modules import MODULES, ROOT, is_covered


def test_the_modules_that_are_mutated_are_those_of_the_pure_contract() -> None:
    mutated = {path for suite in SUITES for path in suite.modules(ROOT)}
    pure = {path.relative_to(ROOT).as_posix() for name, path in MODULES.items() if is_covered(name)}
    packages = tuple(suite.package for suite in SUITES)
    expected = {path for path in pure if path.startswith(packages)}
    assert {path for path in mutated - expected if not path.endswith("/__init__.py")} == set()
    assert expected - mutated == set()


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.package)
def test_the_tests_of_a_package_exist(suite: Suite) -> None:
    for name in (*suite.tests, *suite.skipped):
        path, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / path).read_text() if test else (ROOT / path).is_file(), name


def test_a_sample_is_fixed_by_its_seed_and_changes_each_place_once() -> None:
    mutants = [
        ("suite", Mutant("a.py", f"operator{number}", 0, (line, 0)))
        for line in range(50)
        for number in range(4)
    ]
    chosen = sample(mutants, 20, seed=1)
    assert chosen == sample(mutants, 20, seed=1) != sample(mutants, 20, seed=2)
    assert len({mutant.begin for _, mutant in chosen}) == len(chosen) == 20
    assert len(sample(mutants, 1000, seed=1)) == 50
    assert sample(mutants, None, seed=1) == mutants
