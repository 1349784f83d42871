"""A target model in a GGUF file: what it is, and how transformers is asked for it.

Law: the file is checked before transformers sees it, and what it says of its vocabulary and its end tokens is
read here, so that a device with the original's tokenizer is served. Its weights are converted to the number
format of the worker, which takes longer and more memory than the file.
"""

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.utils.hub import cached_file

from cloud_worker.target_model.errors import TargetModelError, first_line
from common.gguf.facts import architecture, check_model, end_ids, num_weights, quantisation, vocabulary
from common.gguf.header import GgufError, Header, read_header
from common.gguf.rope import rope_scaling, with_scaling
from common.process.progress_lines import ProgressLines

SUFFIX = ".gguf"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GgufSource:
    """A checked file, and what the worker needs to know of its model besides the weights."""

    header: Header
    vocabulary: Mapping[str, int]
    eos_ids: frozenset[int]

    @property
    def arguments(self) -> dict[str, Any]:
        """What `from_pretrained` of a model is called with, besides the number format and the placement."""
        path = self.header.path
        return {
            "pretrained_model_name_or_path": str(path.parent),
            "gguf_file": path.name,
            "config": self.config(),
        }

    def config(self) -> PretrainedConfig:
        """The model's configuration, with the scaling of its frequencies."""
        path = self.header.path
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        scaling = rope_scaling(self.header)
        if scaling:
            text = config.get_text_config()
            text.rope_parameters = with_scaling(text.rope_parameters or {}, scaling)
        return config

    @contextmanager
    def logged(self, dtype: str, weight_bytes: int) -> Generator[None]:
        """Log what the loading in the block takes, and how far it is; transformers draws a bar for it."""
        header, began = self.header, monotonic()
        size = num_weights(header) * weight_bytes
        _log.info(
            "reading %s: %s, %.1f million weights, mostly %s; they are converted to %s, which takes %.2f GB",
            header.path,
            architecture(header),
            num_weights(header) / 1e6,
            quantisation(header),
            dtype,
            size / 1e9,
        )
        with redirect_stderr(ProgressLines(lambda line: _log.info("converting: %s", line))):
            yield
        _log.info("read %s in %.0f seconds", header.path.name, monotonic() - began)


def open_gguf(name: str) -> GgufSource | None:
    """The GGUF file that `name` means, a path or REPOSITORY:FILE on the hub; None for any other name."""
    if not name.lower().endswith(SUFFIX):
        return None
    path = Path(name).expanduser()
    repository, colon, file = name.partition(":")
    try:
        if not path.is_file():
            if not colon or repository.count("/") != 1 or repository.startswith((".", "~", "/")):
                raise TargetModelError(f"there is no file {path}: choose a GGUF file, a folder or a hub name")
            path = _from_hub(repository, file)
        header = read_header(path)
        check_model(header)
        rope_scaling(header)
    except GgufError as error:
        raise TargetModelError(str(error)) from error
    if find_spec("gguf") is None:
        raise TargetModelError("reading a GGUF file needs the package gguf: pip install 'hybrid-lm[gguf]'")
    return GgufSource(header, vocabulary(header), end_ids(header))


def _from_hub(repository: str, file: str) -> Path:
    try:
        found = cached_file(repository, file)
    except OSError as error:
        raise TargetModelError(f"cannot fetch {file} of {repository}: {first_line(error)}") from error
    assert found is not None  # it raises for a missing entry
    return Path(found)
