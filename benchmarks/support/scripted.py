"""Scripted models that answer at once: both follow one script, so every draft token is accepted.

    python -m benchmarks.support.scripted --broker mqtt://127.0.0.1:1883    # a worker

Law: only the models are replaced. Sessions, codec, links, broker, scheduler and loops are real, so a
measurement covers everything except the models.
"""

import asyncio
import logging
import time
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from cloud_worker.config import WorkerConfig
from cloud_worker.engines.local import LocalEngine
from cloud_worker.monitoring.health import HealthPages
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.session.job import Rows
from cloud_worker.worker import Worker, serve
from evaluation.help_format import command_parser

VOCAB_SIZE = 1024
SHARPNESS = 6.0
VOCABULARY: Mapping[str, int] = {f"token{number}": number for number in range(VOCAB_SIZE)}


class Script:
    """Logits [vocab_size] that depend on the position alone, from a table of `length` rows."""

    def __init__(self, length: int = 64, vocab_size: int = VOCAB_SIZE) -> None:
        noise = np.random.default_rng(1).normal(size=(length, vocab_size))
        self._table = (SHARPNESS * noise).astype(np.float32)

    def row(self, position: int) -> Rows:
        """Return the logits after the token at `position`."""
        return self._table[position % len(self._table)]

    def rows(self, first: int, end: int) -> Rows:
        """Return the logits after the positions [first, end)."""
        return self._table[np.arange(first, end) % len(self._table)]


class ScriptedDraft:
    """A draft model that follows a script; any number of agents may share it."""

    max_positions = 1 << 16

    def __init__(self, script: Script) -> None:
        self._script = script

    def logits(self, tokens: Sequence[int]) -> Rows:
        """Return the script's logits after the last token."""
        return self._script.row(len(tokens) - 1)


class ScriptedTarget:
    """A target model that follows a script, with the part of `TargetModel`'s interface that a worker uses."""

    max_positions = 1 << 16
    vocab_size = VOCAB_SIZE
    eos_ids: frozenset[int] = frozenset()
    num_pages = num_used_pages = 0  # it has no cache

    def __init__(self, script: Script, *, seconds: float = 0.0) -> None:
        """`seconds` is how long a forward pass sleeps."""
        self.vocabulary = VOCABULARY
        self._script, self._seconds = script, seconds

    def logits(self, passes: Sequence[Pass]) -> list[Rows]:
        """Return the script's rows after the set time."""
        if self._seconds:
            time.sleep(self._seconds)
        return [self._script.rows(one.first_row, len(one.tokens)) for one in passes]

    def num_missing(self, _one: Pass) -> int:
        """Return 0: no position needs computing."""
        return 0

    def cached_tokens(self, _session: Hashable) -> int:
        """Return 0: there is no cache."""
        return 0

    def forget(self, _session: Hashable) -> None:
        """Do nothing: there is no cache."""


def main() -> None:
    """Run a scripted worker until it is stopped."""
    parser = command_parser("benchmarks.support.scripted", __doc__)
    parser.add_argument("--broker", required=True, help="mqtt://host:port")
    parser.add_argument("--worker", default="scripted", help="the worker's name")
    parser.add_argument("--pass-ms", type=float, default=0.0, help="how long a forward pass takes")
    parser.add_argument("--max-batch", type=int, default=32, help="sessions in one pass")
    flags = parser.parse_args()
    logging.basicConfig(level="INFO")
    config = WorkerConfig(
        broker=flags.broker, worker=flags.worker, max_batch=flags.max_batch, max_rate_per_device=0.0
    )
    model = ScriptedTarget(Script(), seconds=flags.pass_ms / 1000)
    asyncio.run(serve(Worker(config, LocalEngine(model)), HealthPages(config)))


if __name__ == "__main__":
    main()
