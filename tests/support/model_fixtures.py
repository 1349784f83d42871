"""The small models as fixtures: built once, kept in pytest's cache, shared by all workers of pytest-xdist."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import onnxruntime
import pytest
import torch
import transformers

import edge_agent.export
from tests.support import small_models
from tests.support.small_models import FolderOf, SmallModels


@pytest.fixture(scope="session")
def models(request: pytest.FixtureRequest) -> SmallModels:
    """All families; what changes how they are built makes new ones."""
    torch.set_num_threads(1)
    sources = [Path(small_models.__file__), *sorted(Path(edge_agent.export.__file__).parent.glob("*.py"))]
    versions = [torch.__version__, transformers.__version__, onnxruntime.__version__]
    key = _digest([*(path.read_text() for path in sources), *versions])
    return SmallModels(request.config.cache.mkdir(f"small_models-{key}"))


@pytest.fixture(scope="session")
def family_folder(models: SmallModels) -> FolderOf:
    """family name -> folder of the target model in torch."""
    return models.target


@pytest.fixture(scope="session")
def twin_folder(models: SmallModels) -> FolderOf:
    """family name -> folder of the same model in ONNX."""
    return models.twin


@pytest.fixture(scope="session")
def draft_folder(models: SmallModels) -> FolderOf:
    """family name -> folder of a noisy copy of it in ONNX."""
    return models.draft


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
