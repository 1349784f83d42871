"""From a Hugging Face model or a GGUF file to a folder that DraftModel loads: graph, tokenizer, settings.

Law: nothing is written unchecked. The new folder is compared with torch through DraftModel, rewinds included,
and appears under its name only when both agree. Needs the extra `export`, which the agent never does.
"""

import shutil
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from edge_agent.draft_model.hub import TEXT_FILES, fetch
from edge_agent.draft_model.source import local_folder
from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from edge_agent.export.agreement import Written

Precision: TypeAlias = Literal["fp32", "fp16", "int8", "int4"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int4")

GOOD_ACCEPTANCE = 0.85
BAD = (
    "This graph is far from its original, which costs acceptance: export it with a higher --precision, "
    "unless size or speed matter more."
)

_NEEDED = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime_genai")
_WEIGHT_FILES = ("*.safetensors", "*.model")


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a graph compares with torch over `num_positions` next-token distributions.

    The largest difference of two logits (and the largest logit, for scale), the share of positions where
    both have the same most probable token, the mean total variation of the distributions (0 to 1), which
    is also the share of draft tokens that the original model would reject, and the median time of a token.
    """

    num_positions: int
    max_difference: float
    max_logit: float
    same_argmax: float
    total_variation: float
    step_seconds: float = 0.0

    @property
    def acceptance(self) -> float:
        """The share of draft tokens that the original model would accept."""
        return 1.0 - self.total_variation


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was made: the folder, the exporter, the graph's bytes on disk, and its agreement with torch."""

    folder: Path
    precision: Precision
    maker: str
    num_bytes: int
    agreement: Agreement

    def __str__(self) -> str:
        """The lines to print."""
        agreement = self.agreement
        lines = (
            f"{self.folder}: {self.precision}, {self.num_bytes / 1e6:.1f} MB, "
            f"{1000 * agreement.step_seconds:.1f} ms per token here, graph by {self.maker}",
            f"Against the original, over {agreement.num_positions} tokens of text: "
            f"total variation {agreement.total_variation:.3f}, "
            f"same first choice {agreement.same_argmax:.1%}, expected acceptance {agreement.acceptance:.1%}",
        )
        return "\n".join([*lines, BAD] if agreement.acceptance < GOOD_ACCEPTANCE else lines)


def export(
    source: str,
    out: Path,
    precision: Precision = "int8",
    *,
    num_threads: int = 0,
    providers: Sequence[str] = (),
    prompts: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> ExportReport:
    """Write model `source` as a draft model to folder `out`: a local folder or hub name, or a GGUF file.

    fp32 is exact; int8 and int4 are smaller, rounded by block; fp16 is for GPUs. `num_threads` and
    `providers` are those of `DraftModel.load`: the graph is built for them and checked with them. The check
    uses the original's answers to `prompts`, or to some of its own. `progress` gets a line per stage.
    Raises ModelError when a package is missing, `out` is not empty, the model cannot be exported, or the
    result differs from torch by more than its precision explains.
    """
    _require_packages(_NEEDED, "export")
    from edge_agent.export.agreement import PROMPTS, reference
    from edge_agent.export.graphs import makers_of, one_line
    from edge_agent.export.original import Original
    from edge_agent.export.quiet import quiet

    make_room(out)
    refusals: list[str] = []
    with _source_folder(source, out, progress) as folder, quiet():
        progress("Loading the original, which writes the text of the check ...")
        expected = reference(Original.load(folder), prompts or PROMPTS)
        for maker in makers_of(precision, providers):
            try:
                agreement = _make(maker, folder, out, precision, num_threads, providers, expected, progress)
            except Exception as error:  # noqa: BLE001 (each fails in its own ways; try the next)
                refusals.append(f"{maker}: {one_line(error)}")
            else:
                num_bytes = sum(path.stat().st_size for path in out.glob("model.onnx*"))
                return ExportReport(
                    out, precision, "; not by ".join([maker, *refusals]), num_bytes, agreement
                )
    raise ModelError(
        f"This model cannot be exported as {precision} ({'; '.join(refusals)}): nothing was written."
    )


def make_room(out: Path) -> None:
    """Make the parents of folder `out`; raises ModelError if something is there already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out} already exists: name a new folder.")
    out.parent.mkdir(parents=True, exist_ok=True)


def _make(
    maker: str,
    source: Path,
    out: Path,
    precision: Precision,
    num_threads: int,
    providers: Sequence[str],
    expected: "Sequence[Written]",
    progress: Callable[[str], None],
) -> Agreement:
    """Build beside `out`, check, and only then move the folder there."""
    from edge_agent.export.agreement import compare, judge
    from edge_agent.export.graphs import MAKERS, is_for_cuda

    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / "model"
        made.mkdir()
        progress(f"Building the {precision} graph with {maker} ...")
        MAKERS[maker](source, made, precision, is_for_cuda(precision, providers), progress)
        _copy_text_files(source, made)
        progress("Comparing it with the original ...")
        agreement = compare(expected, made, num_threads=num_threads, providers=providers)
        judge(agreement, precision)
        if out.exists():
            out.rmdir()
        made.rename(out)
    return agreement


def _require_packages(names: Sequence[str], extra: str) -> None:
    for name in names:
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise ModelError(f"Exporting needs {error.name}: pip install 'hybrid-lm[{extra}]'.") from error


@contextmanager
def _source_folder(source: str, out: Path, progress: Callable[[str], None]) -> Generator[Path]:
    """The folder with the original; what is made of a GGUF file stays beside `out` until the block ends."""
    if source.lower().endswith(".gguf"):
        from edge_agent.export.gguf_source import local_file, write_folder
        from edge_agent.export.quiet import quiet

        path = local_file(source, fetch)
        _require_packages(("gguf",), "gguf")
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch, quiet():
            write_folder(path, Path(scratch), progress)
            yield Path(scratch)
        return
    folder = local_folder(source) or fetch(source, [*TEXT_FILES, *_WEIGHT_FILES])
    if not (folder / "config.json").is_file():
        files = sorted(folder.glob("*.gguf"))
        choice = files[0] if files else "a folder written by save_pretrained"
        raise ModelError(f"{folder} has no config.json: give {choice}.")
    yield folder


def _copy_text_files(source: Path, out: Path) -> None:
    """Copy tokenizer, template and settings as they are; convert a tokenizer of another format."""
    for pattern in TEXT_FILES:
        for path in source.glob(pattern):
            if not path.name.endswith(".index.json"):
                shutil.copyfile(path, out / path.name)
    if not (out / "tokenizer.json").is_file():
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(source).save_pretrained(out)
    if not (out / "tokenizer.json").is_file():
        raise ModelError(f"The tokenizer in {source} cannot be written as tokenizer.json: use another model.")
