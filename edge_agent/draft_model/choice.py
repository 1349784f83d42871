"""Which of a model's files is the graph to run, on the hub as in a folder. Pure.

Law: a listing of names decides, and the same names lead to the same graph on the hub and on this machine.

A repository may have its graphs in `onnx/` (onnx-community), as `decoder_model_merged` (optimum and older
transformers.js repositories), or each in a folder of its own with its genai_config.json, for one kind of
device each (onnxruntime-genai).
"""

from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

GENAI_CONFIG = "genai_config.json"
# The small ones first, because this is the device; uint8 before int8, which overflows on x86 without VNNI.
_VARIANTS = ("_q4", "_quantized", "_uint8", "_int8", "", "_q4f16", "_fp16")
KNOWN_GRAPHS = (
    "model.onnx",  # as our export and the genai builder call it
    *(f"onnx/model{variant}.onnx" for variant in _VARIANTS),
    *(f"{folder}decoder_model_merged{variant}.onnx" for folder in ("onnx/", "") for variant in _VARIANTS),
)
# Without the other half, these have no cache or no beginning.
_HALVES = ("decoder_model", "decoder_with_past_model")


def choose(names: Collection[str]) -> list[str]:
    """The graph among these files, relative to the model's folder.

    Several, where nothing speaks for one of them; none, where no file is a whole language model.
    """
    for known in KNOWN_GRAPHS:
        if known in names:
            return [known]
    alone = [name for name in graphs(names) if name.removeprefix("onnx/").count("/") == 0]
    whole = [name for name in alone if not _is_half(name)]
    return whole or _for_cpu(_genai_graphs(names))


def graphs(names: Collection[str]) -> list[str]:
    """All graphs, in order."""
    return sorted(name for name in names if name.endswith(".onnx"))


def has_halves(names: Collection[str]) -> bool:
    """Whether there are only graphs that each do a part of the work."""
    return not choose(names) and any(_is_half(name) for name in names)


def _is_half(name: str) -> bool:
    return PurePosixPath(name).name.startswith(_HALVES) and name.endswith(".onnx")


def _genai_graphs(names: Collection[str]) -> list[str]:
    """The graphs in folders that have a configuration of their own."""
    folders = {str(PurePosixPath(name).parent) for name in names if PurePosixPath(name).name == GENAI_CONFIG}
    return [name for name in graphs(names) if str(PurePosixPath(name).parent) in folders]


def _for_cpu(names: Sequence[str]) -> list[str]:
    """Those that are made for processors, as their folders are called; all where none is."""
    return [name for name in names if "cpu" in str(PurePosixPath(name).parent).lower()] or list(names)
