"""A model with its matrices rounded to integers: a folder in the format of Olive, which the builder reads.

Law: a matrix is rounded while the original reads text of its own, with the inputs that the matrices rounded
before it give. So the text is read once, and never is more than a matrix in float32.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import nn

from edge_agent.export.original import Original, in_float32
from edge_agent.export.rounding import Blocks, Rounded, round_matrix

if TYPE_CHECKING:
    from edge_agent.export import Precision

HEAD = "lm_head"
PROMPTS = (  # others than those of the check
    "The history of",
    "def main():\n",
    "Question: What is",
    "Hello, my name is",
    "The best way to",
    "According to scientists,",
    "1. Introduction\n",
    "To solve this problem,",
)
_TEXTS_PER_PROMPT = 4
_NUM_SAMPLED = 96  # tokens per text
_SHARD_BYTES = 64 << 20
_OUTER = 7  # a seventh of the layers at each end


def write_rounded(
    original: Original, out: Path, precision: "Precision", progress: Callable[[str], None]
) -> bool:
    """Write the rounded model to folder `out`; `original` is used up.

    Returns whether the head is the embedding as well, which is then written once.

    Raises NotImplementedError for a model that is not built of `nn.Linear` matrices, each of which sees all
    tokens.
    """
    model = original.model
    matrices = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    plan = make_plan(matrices, precision)
    texts: list[list[int]] = []
    if precision == "int4":
        progress("Writing the text whose inputs say which weights matter ...")
        texts = [text for text, _ in original.answers(PROMPTS * _TEXTS_PER_PROMPT, _NUM_SAMPLED, seed=1)]
    writer = _Writer(out)
    written = set(plan)
    head = matrices.pop(HEAD)
    tied = head.weight is model.get_input_embeddings().weight
    with torch.no_grad():
        rounded = round_matrix(head.weight.data, plan[HEAD])
        writer.add_matrix(HEAD, rounded, head.bias)
        if tied:
            written.add(_name_of(model, model.get_input_embeddings()))
            if texts:  # read with the embedding that the graph has
                head.weight.data = rounded.weights().to(head.weight.dtype)
        del rounded
        if texts:
            _round_while_reading(model, texts, matrices, plan, writer, progress)
        for name in () if texts else matrices:
            writer.add_matrix(name, round_matrix(matrices[name].weight.data, plan[name]), matrices[name].bias)
    for name, weights in model.named_parameters():
        if name.rpartition(".")[0] not in written:
            writer.add(name, weights.data)
    writer.close()
    _write_config(original, out, plan)
    return tied


def _round_while_reading(
    model: Any,
    texts: Sequence[Sequence[int]],
    matrices: Mapping[str, nn.Linear],
    plan: Mapping[str, Blocks],
    writer: "_Writer",
    progress: Callable[[str], None],
) -> None:
    """Let the model read the texts: a matrix is rounded when its inputs come, and then gives its outputs."""
    longest = max(map(len, texts))  # padding comes last, so no text sees it
    tokens = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])
    is_text = torch.tensor([[position < len(text) for position in range(longest)] for text in texts])
    handles: list[Any] = []
    left = set(matrices)

    def rounding_hook(name: str) -> Callable[[nn.Linear, tuple[torch.Tensor, ...]], None]:
        def hook(module: nn.Linear, values: tuple[torch.Tensor, ...]) -> None:
            if values[0].shape[:-1] != is_text.shape:
                raise NotImplementedError(f"{name} does not see every token")
            moments = None
            if plan[name].bits == 4:
                inputs = values[0][is_text].float()
                moments = inputs.T @ inputs / len(inputs)
            rounded = round_matrix(module.weight.data, plan[name], moments)
            writer.add_matrix(name, rounded, module.bias)
            module.weight.data = rounded.weights()
            left.discard(name)
            if len(left) % (len(matrices) // 4 + 1) == 0:
                progress(f"{len(matrices) - len(left)} of {len(matrices)} matrices are rounded ...")

        return hook

    with in_float32(model):
        for name, module in matrices.items():
            handles.append(module.register_forward_pre_hook(rounding_hook(name)))
        try:
            model.base_model(tokens, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
    if left:
        raise NotImplementedError(f"{min(left)} is not used")


class _Writer:
    """Tensors to files of at most about `_SHARD_BYTES`, so that few are kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tensors: dict[str, torch.Tensor] = {}
        self._num_files = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        self._tensors[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
        if sum(one.nbytes for one in self._tensors.values()) > _SHARD_BYTES:
            self.close()

    def add_matrix(self, name: str, matrix: Rounded, bias: torch.Tensor | None) -> None:
        bits = matrix.blocks.bits
        self.add(f"{name}.qweight", _packed(matrix.integers, bits))
        self.add(f"{name}.scales", matrix.scales)
        self.add(f"{name}.qzeros", _packed(matrix.zeros.to(torch.uint8), bits))
        if bias is not None:
            self.add(f"{name}.bias", bias)

    def close(self) -> None:
        save_file(self._tensors, self._folder / f"model-{self._num_files:05}.safetensors")
        self._tensors = {}
        self._num_files += 1


def _packed(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Integers of 4 bits two to a byte, the first in the lower half."""
    if bits == 8:
        return values
    values = nn.functional.pad(values, (0, values.shape[1] % 2))
    return values[:, 0::2] | values[:, 1::2] << 4


def _write_config(original: Original, out: Path, plan: Mapping[str, Blocks]) -> None:
    original.tokenizer.save_pretrained(out)
    original.model.config.save_pretrained(out)
    path = out / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["quantization_config"] = {
        "quant_method": "olive",
        "bits": 4,
        "group_size": 32,
        "overrides": {name: {"bits": one.bits, "group_size": one.size} for name, one in plan.items()},
    }
    path.write_text(json.dumps(config), encoding="utf-8")


def _name_of(model: nn.Module, wanted: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)


def make_plan(matrices: Mapping[str, nn.Linear], precision: "Precision") -> dict[str, Blocks]:
    """How each matrix is rounded; int4 spends 8 bits where a wrong bit costs most.

    That is the head, attention (a fifth of the weights, read by every later layer and token), and what the
    first and last layers write.
    """
    if HEAD not in matrices:
        raise NotImplementedError(f"it has no {HEAD}")
    layers = sorted({layer for name in matrices if (layer := _layer_of(name)) is not None})
    outer = {*layers[: len(layers) // _OUTER], *layers[len(layers) - len(layers) // _OUTER :]}

    def is_sensitive(name: str) -> bool:
        return ".self_attn." in name or (name.endswith("down_proj") and _layer_of(name) in outer)

    def blocks(name: str) -> Blocks:
        num_inputs = matrices[name].in_features
        if precision == "int8":  # inputs are rounded in the same blocks, and those of down_proj vary most
            return _blocks(num_inputs, (16,) if name.endswith("down_proj") else (32, 16), 8)
        if name == HEAD or is_sensitive(name):
            return _blocks(num_inputs, (64, 32, 16), 8)
        return _blocks(num_inputs, (32, 16), 4)

    return {name: blocks(name) for name in matrices}


def _layer_of(name: str) -> int | None:
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def _blocks(num_inputs: int, sizes: Sequence[int], bits: int) -> Blocks:
    for size in sizes:
        if num_inputs % size == 0:
            return Blocks(bits, size)
    raise NotImplementedError(f"its matrices have {num_inputs} inputs")
