"""A draft model and a target model in one process, with their logits cached by prefix.

Law: a pair that does not share its vocabulary is refused. The logits are those that agent and worker would
see.
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from transformers.utils.hub import cached_file

from cloud_worker.target_model import TargetModel, TargetModelError
from cloud_worker.target_model.gguf_source import open_gguf
from cloud_worker.target_model.loading import DEMO_FOLDER as TARGET_DEMO_FOLDER
from cloud_worker.target_model.loading import DTYPES
from common.process.paths import path_flag
from common.process.settings import SettingsError
from common.protocol.fingerprint import fingerprint
from common.protocol.messages import Opening
from common.sampling.distribution import Sampling
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.draft_model.files import ModelInfo, read_info
from edge_agent.draft_model.source import resolve
from edge_agent.errors import AgentError
from edge_agent.text.tokenizer import Text
from evaluation.models.cached_logits import CachedDraft, CachedTarget, Stores

CACHE_FOLDER = "hybrid-lm/logits"  # below the user's cache folder
WEIGHTS = ("*.safetensors", "*.bin", "config.json")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two loaded models; `text` and `info` are the draft model's, as an agent uses them.

    `key` identifies the files and the precision: equal keys mean equal logits.
    """

    draft_name: str
    target_name: str
    key: str
    draft: CachedDraft
    target: CachedTarget
    text: Text
    info: ModelInfo
    stores: Stores

    @property
    def vocab_size(self) -> int:
        """The size of the tokenizer's vocabulary, which both ends use."""
        return self.text.vocab_size

    @property
    def max_positions(self) -> int:
        """The length of the longest sequence that both models can hold."""
        return min(self.draft.max_positions, self.target.max_positions)

    @property
    def eos_ids(self) -> frozenset[int]:
        """The end tokens of both models."""
        return self.info.eos_ids | self.target.eos_ids

    def prompt(self, command: str) -> list[int]:
        """Return the tokens of a prompt, as an agent makes them."""
        if self.text.has_chat_template:
            return self.text.chat_prompt([{"role": "user", "content": command}])
        return self.text.encode(command)

    def opening(self, sampling: Sampling, seed: int) -> Opening:
        """Return the opening that an agent sends for a session."""
        return Opening(self.text.fingerprint, self.text.vocab_size, sampling, seed)


def add_pair_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose a pair and the folder for its logits."""
    parser.add_argument("--draft", default="demo", help="the draft model: a folder, a hub name or demo")
    parser.add_argument("--target", default="demo", help="the target model: a folder, a hub name or demo")
    parser.add_argument(
        "--dtype", default="float32", choices=tuple(DTYPES), help="the target model's precision"
    )
    parser.add_argument("--num-threads", type=int, default=1, help="CPU threads per model")
    parser.add_argument(
        "--cache", type=path_flag, help="folder for cached logits (default: in the user's cache folder)"
    )


@contextmanager
def open_pair(
    flags: argparse.Namespace, *, keeps_logits: bool = True, keeps_penalties: bool = False
) -> Generator[Pair]:
    """Open the pair that the flags of `add_pair_flags` choose; SettingsError if it cannot be used.

    Without `keeps_logits` the logits go to the disk only if `--cache` is given, since rows are large.
    """
    try:
        with load_pair(
            flags.draft,
            flags.target,
            dtype=flags.dtype,
            num_threads=flags.num_threads,
            cache=flags.cache or (default_cache() if keeps_logits else None),
            keeps_penalties=keeps_penalties,
        ) as pair:
            yield pair
    except (AgentError, TargetModelError) as error:
        raise SettingsError(str(error)) from error


@contextmanager
def load_pair(
    draft: str = "demo",
    target: str = "demo",
    *,
    dtype: str = "float32",
    num_threads: int = 1,
    cache: Path | None = None,
    keeps_penalties: bool = False,
) -> Generator[Pair]:
    """Load both models; with `cache` their logits are kept in that folder.

    The penalties that the draft model recommends are left out unless `keeps_penalties`.

    Raises ModelError, TargetModelError, or SettingsError when the vocabularies differ.
    """
    info = read_info(resolve(draft))
    if not keeps_penalties:
        info = _without_penalties(info)
    text = Text.load(info)
    target_model = TargetModel.load(target, dtype=dtype, num_threads=num_threads)
    if fingerprint(target_model.vocabulary) != text.fingerprint:
        raise SettingsError(
            f"draft model {draft} and target model {target} have different vocabularies: choose a pair that "
            "shares its tokenizer"
        )
    draft_model = DraftModel.load(info.folder, num_threads=num_threads)
    graph_files = sorted(info.onnx_path.parent.glob(f"{info.onnx_path.name}*"))
    draft_key = _digest(graph_files)
    target_key = f"{_digest(_weight_files(target))}-{dtype}"
    with Stores(cache, draft_key, target_key) as stores:
        yield Pair(
            draft_name=draft,
            target_name=target,
            key=f"{draft_key}-{target_key}",
            draft=CachedDraft(draft_model, stores.draft),
            target=CachedTarget(target_model, stores.target),
            text=text,
            info=info,
            stores=stores,
        )


def _without_penalties(info: ModelInfo) -> ModelInfo:
    """The same without the penalties that the model recommends: the pages compare plain distributions."""
    if not info.sampling.has_penalties:
        return info
    print("evaluation: the penalties of generation_config.json are not applied here", file=sys.stderr)
    plain = Sampling()
    sampling = replace(
        info.sampling,
        repetition_penalty=plain.repetition_penalty,
        presence_penalty=plain.presence_penalty,
        frequency_penalty=plain.frequency_penalty,
    )
    return replace(info, sampling=sampling)


def default_cache() -> Path:
    """Return the folder for the logits of all commands, unless `--cache` is given."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / CACHE_FOLDER


def _weight_files(target: str) -> Sequence[Path]:
    source = str(TARGET_DEMO_FOLDER) if target == "demo" else os.path.expanduser(target)
    if (gguf := open_gguf(target)) is not None:
        return [gguf.header.path]
    config = cached_file(source, "config.json")
    assert config is not None  # the model was loaded from there
    folder = Path(config).parent
    return sorted(path for pattern in WEIGHTS for path in folder.glob(pattern))


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:24]
