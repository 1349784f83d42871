"""The distribution as fixtures: built once, shared by all workers of pytest-xdist."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support.distribution import Distribution, Installed, build, copy_repository, install


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run of pytest, one for all workers."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def distribution(shared_folder: Path) -> Distribution:
    """Wheel and sdist of the repository."""
    output = shared_folder / "distribution"
    with FileLock(shared_folder / "distribution.lock"):
        if not output.exists():
            build(copy_repository(shared_folder / "sources"), output)
    (wheel,), (sdist,) = output.glob("*.whl"), output.glob("*.tar.gz")
    return Distribution(wheel, sdist)


@pytest.fixture(scope="session")
def installed(distribution: Distribution, shared_folder: Path) -> Installed:
    """An environment with the wheel."""
    folder = shared_folder / "environment"
    with FileLock(shared_folder / "environment.lock"):
        return Installed(folder) if folder.exists() else install(distribution.wheel, folder)
