"""Torch weights to an ONNX graph: by onnxruntime-genai if it knows the architecture, else by transformers.

Law: every graph made here is `model.onnx`, has a key/value cache, and takes any number of new tokens.
onnxruntime-genai's graphs fuse attention and write their cache in place; transformers' take any architecture.
"""

import contextlib
import inspect
import runpy
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from common.transformers_cache import cache_argument
from edge_agent.draft_model.onnx_session import ON_CUDA

if TYPE_CHECKING:
    import torch

    from edge_agent.export import Precision

GRAPH = "model.onnx"
BLOCK_SIZE = 32  # weights that share one int4 scale
_INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy level: int4 weights times int8 activations
# the head and the sensitive layers in 8 bits, and blocks with an offset fitted to their weights
_BUILDER_OPTIONS = {"int4": ("algo_config=k_quant_mixed",)}
_SAMPLE_PAST, _SAMPLE_NEW = 5, 3  # lengths to trace with: not 0 or 1, which tracing takes for constants


def build_rounded(
    source: Path, out: Path, precision: "Precision", on_cuda: bool, progress: Callable[[str], None]
) -> None:
    """Round the model in folder `source`, and write its graph to folder `out`: int8 and int4, for the CPU.

    Raises NotImplementedError for a model that is built in another way than Llama's.
    """
    from edge_agent.export.original import Original
    from edge_agent.export.rounded_folder import HEAD, write_rounded

    with TemporaryDirectory(dir=out.parent) as scratch:
        is_tied = write_rounded(Original.load(source), Path(scratch), precision, progress)
        # int4 is what the folder leaves in float, which is nothing: its matrices have their own bits
        _run_builder(Path(scratch), out, "int4", on_cuda, *(("shared_embeddings=true",) if is_tied else ()))
    if is_tied:
        _give_embedding_rows(out / GRAPH, HEAD)


def build_with_genai(
    source: Path, out: Path, precision: "Precision", on_cuda: bool, progress: Callable[[str], None] = print
) -> None:
    """Write the graph of the model in folder `source` to folder `out`.

    `on_cuda` fuses attention for NVIDIA GPUs instead of the CPU. Errors of the builder pass through:
    NotImplementedError for an architecture it does not know.
    """
    del progress
    _run_builder(source, out, precision, on_cuda, *_BUILDER_OPTIONS.get(precision, ()))


def _run_builder(source: Path, out: Path, precision: "Precision", on_cuda: bool, *options: str) -> None:
    """Run onnxruntime-genai's builder; its command line is its only stable interface."""
    provider = "cuda" if on_cuda else "cpu"
    with TemporaryDirectory(dir=out.parent) as scratch:
        arguments = ["-i", str(source), "-o", str(out), "-p", precision, "-e", provider, "-c", scratch]
        if options:
            arguments += ["--extra_options", *options]
        with _arguments("builder", *arguments):
            runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")


def _give_embedding_rows(path: Path, head: str) -> None:
    """Give the head's scales and zero points a row per token, which the lookup of embeddings wants."""
    import onnx

    graph = onnx.load(path, load_external_data=False)
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    num_tokens = tensors[f"{head}.MatMulNBits.qweight"].dims[0]
    for name in ("scales", "qzeros"):
        dims = tensors[f"{head}.MatMulNBits.{name}"].dims
        dims[:] = [num_tokens, dims[0] // num_tokens]
    onnx.save(graph, path)


def build_with_transformers(
    source: Path, out: Path, precision: "Precision", on_cuda: bool, progress: Callable[[str], None] = print
) -> None:
    """The same with transformers' own exporter, for any architecture that it can trace."""
    import torch

    del progress

    target = "cuda" if on_cuda else "cpu"
    with TemporaryDirectory(dir=out.parent) as scratch:
        plain = out if precision in ("fp32", "fp16") else Path(scratch)
        _trace(source, plain / GRAPH, torch.float16 if precision == "fp16" else torch.float32, target)
        if precision == "int8":
            _quantise_int8(plain / GRAPH, out / GRAPH)
        elif precision == "int4":
            _quantise_int4(plain / GRAPH, out / GRAPH)


ROUNDED = "onnxruntime-genai, of rounded weights"
Maker: TypeAlias = Callable[[Path, Path, "Precision", bool, Callable[[str], None]], None]
# In order of preference.
MAKERS: dict[str, Maker] = {
    ROUNDED: build_rounded,
    "onnxruntime-genai": build_with_genai,
    "transformers": build_with_transformers,
}


def makers_of(precision: "Precision", providers: Sequence[str]) -> list[str]:
    """The makers that a precision may have, in order of preference."""
    is_rounded = precision in ("int8", "int4") and not is_for_cuda(precision, providers)
    return [name for name in MAKERS if is_rounded or name != ROUNDED]


def is_for_cuda(precision: "Precision", providers: Sequence[str]) -> bool:
    """Whether the graph's attention is fused for NVIDIA GPUs."""
    return precision == "fp16" or bool(ON_CUDA & set(providers))


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
