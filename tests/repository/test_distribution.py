"""What is in the wheel and in the sdist, and that they depend on the sources alone."""

import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.distribution import (
    ROOT,
    Distribution,
    build,
    copy_repository,
    repository_files,
    run_or_fail,
)

PACKAGES = ("common", "edge_agent", "cloud_worker", "evaluation")
A_DAY = 86_400


def sdist_files(sdist: Path) -> set[str]:
    """The files below the sdist's one folder."""
    with tarfile.open(sdist) as archive:
        return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


def test_the_wheel_holds_every_file_of_the_packages(distribution: Distribution) -> None:
    with zipfile.ZipFile(distribution.wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
    carried = {name for name in files if ".data/data/share/hybrid-lm/" in name}
    assert len(carried) == 4
    packaged = {name for name in repository_files() if name.startswith(tuple(f"{p}/" for p in PACKAGES))}
    assert files - carried == packaged
    assert {f"{package}/py.typed" for package in PACKAGES} <= files
    assert "edge_agent/page/index.html" in files  # which is data, not a package


def test_the_sdist_holds_every_file_of_the_repository(distribution: Distribution) -> None:
    made = {"PKG-INFO", "setup.cfg"}
    files = {name for name in sdist_files(distribution.sdist) if not name.startswith("hybrid_lm.egg-info/")}
    assert files - made == set(repository_files())


def test_equal_sources_make_equal_archives(distribution: Distribution, tmp_path: Path) -> None:
    strict = 0o077
    sources = copy_repository(tmp_path / "another" / "place", age=A_DAY, mask=strict)
    again = build(sources, tmp_path / "output", mask=strict)
    assert again.wheel.read_bytes() == distribution.wheel.read_bytes()
    assert again.sdist.read_bytes() == distribution.sdist.read_bytes()


def test_the_wheel_has_the_development_broker_of_the_repository() -> None:
    ours, packaged = (ROOT / folder / "development.conf" for folder in ("mosquitto", "evaluation/local"))
    assert packaged.read_bytes() == ours.read_bytes(), f"cp {ours} {packaged}"


@pytest.mark.slow
def test_an_unpacked_sdist_passes_its_own_checks(distribution: Distribution, tmp_path: Path) -> None:
    with tarfile.open(distribution.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    environment = os.environ | {"PYTHONPATH": str(folder)}
    tests = ("tests/common/test_codec.py", "tests/cloud_worker/test_scheduler.py", "tests/repository")
    for program, *arguments in (
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("lint-imports",),
        ("python", "-m", "pytest", "-m", "not slow", *tests),
    ):
        command = [str(Path(sys.executable).with_name(program)), *arguments]
        run_or_fail(command, cwd=folder, environment=environment)
