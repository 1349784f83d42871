"""Torch weights to an ONNX graph: by onnxruntime-genai if it knows the architecture, else by transformers.

Law: every graph made here is `model.onnx`, has a key/value cache, and takes any number of new tokens.
onnxruntime-genai's graphs fuse attention and write their cache in place; transformers' take any architecture.
"""

import contextlib
import inspect
import runpy
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from common.transformers_cache import cache_argument

if TYPE_CHECKING:
    import torch

    from edge_agent.export import Precision

GRAPH = "model.onnx"
BLOCK_SIZE = 32  # weights that share one int4 scale
_INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy level: int4 weights times int8 activations
# the head and the sensitive layers in 8 bits, and blocks with an offset fitted to their weights
_BUILDER_OPTIONS = {"int4": ("--extra_options", "algo_config=k_quant_mixed")}
_SAMPLE_PAST, _SAMPLE_NEW = 5, 3  # lengths to trace with: not 0 or 1, which tracing takes for constants


def build_with_genai(source: Path, out: Path, precision: "Precision", on_cuda: bool) -> None:
    """Write the graph of the model in folder `source` to folder `out`.

    `on_cuda` fuses attention for NVIDIA GPUs instead of the CPU. The builder's command line is its only
    stable interface. Its errors pass through: NotImplementedError for an architecture it does not know.
    """
    provider = "cuda" if on_cuda else "cpu"
    with TemporaryDirectory(dir=out.parent) as scratch:
        arguments = ["-i", str(source), "-o", str(out), "-p", precision, "-e", provider, "-c", scratch]
        with _arguments("builder", *arguments, *_BUILDER_OPTIONS.get(precision, ())):
            runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")


def build_with_transformers(source: Path, out: Path, precision: "Precision", on_cuda: bool) -> None:
    """The same with transformers' own exporter, for any architecture that it can trace."""
    import torch

    target = "cuda" if on_cuda else "cpu"
    with TemporaryDirectory(dir=out.parent) as scratch:
        plain = out if precision in ("fp32", "fp16") else Path(scratch)
        _trace(source, plain / GRAPH, torch.float16 if precision == "fp16" else torch.float32, target)
        if precision == "int8":
            _quantise_int8(plain / GRAPH, out / GRAPH)
        elif precision == "int4":
            _quantise_int4(plain / GRAPH, out / GRAPH)


# In order of preference.
MAKERS: dict[str, Callable[[Path, Path, "Precision", bool], None]] = {
    "onnxruntime-genai": build_with_genai,
    "transformers": build_with_transformers,
}


def one_line(error: Exception) -> str:
    """The message of an error, to be quoted in one of ours."""
    return " ".join(str(error).split()).removesuffix(".") or type(error).__name__


def _trace(source: Path, path: Path, dtype: "torch.dtype", target: Literal["cpu", "cuda"]) -> None:
    """Trace with open batch and lengths; the sample has a past, so the graph has one.

    The cache is made without the model's configuration, so that it keeps every position even with sliding
    attention, and can be rewound.
    """
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype).eval()
    argument, past = cache_argument(model.forward), DynamicCache()
    total = _SAMPLE_PAST + _SAMPLE_NEW
    tokens = torch.zeros((2, total), dtype=torch.int64)
    with torch.no_grad():
        model(tokens[:, :_SAMPLE_PAST], **{argument: past}, use_cache=True)
    sample: dict[str, Any] = {
        "input_ids": tokens[:, _SAMPLE_PAST:].contiguous(),
        "attention_mask": torch.ones((2, total), dtype=torch.int64),
        argument: past,
        "use_cache": True,
    }
    if "position_ids" in inspect.signature(model.forward).parameters:
        sample["position_ids"] = torch.arange(_SAMPLE_PAST, total).repeat(2, 1)
    exported = OnnxExporter().export(model, sample, OnnxConfig(dynamic=True, ort_fusions=target))
    OnnxExporter.save_program(exported.program, path)


def _quantise_int8(source: Path, target: Path) -> None:
    """Quantise weights by column ahead of time, and activations at each run.

    Both are unsigned. Signed weights overflow on x86 processors without VNNI, which add two products in 16
    bits: drafts silently turn bad. ARM runs both kinds in the same kernels. The shapes that an exporter
    noted may be wrong, and the types of fused nodes unknown: both are discarded.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    del graph.graph.value_info[:]
    quantize_dynamic(
        graph,
        target,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QUInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        use_external_data_format=True,
    )


def _quantise_int4(source: Path, target: Path) -> None:
    """Quantise weights in blocks of `BLOCK_SIZE`."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.onnx_model import ONNXModel

    graph = ONNXModel(onnx.load(source))
    graph.replace_gemm_with_matmul()
    quantizer = MatMulNBitsQuantizer(
        graph.model, block_size=BLOCK_SIZE, is_symmetric=True, accuracy_level=_INT8_ACTIVATIONS
    )
    quantizer.process()
    graph.save_model_to_file(str(target), True)


@contextlib.contextmanager
def _arguments(*values: str) -> Generator[None]:
    before, sys.argv = sys.argv, list(values)
    try:
        yield
    finally:
        sys.argv = before
