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
    | {"pycddl", "safetensors", "scipy", "simpy", "torch", "tqdm", "transformers", "yaml"}
)


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
