"""On a device, where only `.[edge]` is installed, the suite is what needs nothing else.

Law: a test module is left out only because a package is missing that another extra brings; any other error
of its import is one.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

IS_DEVICE = find_spec("torch") is None
OF_OTHER_EXTRAS = frozenset(
    {"accelerate", "filelock", "gguf", "matplotlib", "onnx", "onnx_ir", "onnxruntime_genai", "onnxscript"}
    | {"jsonschema", "pycddl", "safetensors", "scipy", "simpy", "torch", "tqdm", "transformers", "yaml"}
)
MADE_MODELS = frozenset({"family_folder", "twin_folder", "draft_folder"})  # of model_fixtures


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out test modules that import what a device lacks."""
    if not IS_DEVICE or not collection_path.match("test_*.py"):
        return None
    parts = collection_path.relative_to(config.rootpath).with_suffix("").parts
    try:
        import_module(".".join(parts))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OF_OTHER_EXTRAS:
            return True
    except Exception:  # noqa: BLE001 (shown when the module is collected)
        return None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests whose models torch would have to make."""
    if not IS_DEVICE:
        return
    for item in items:
        if made := MADE_MODELS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(f"needs torch for {', '.join(sorted(made))}"))
