"""Models slowed to the speed of other machines: each call takes at least a set time.

    python -m benchmarks.support.slowed --pass-ms 60 --broker mqtt://127.0.0.1:1883    # a worker

Law: they only wait; their answers are those of the real model.
"""

import asyncio
import logging
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from cloud_worker.config import WorkerConfig
from cloud_worker.engines.local import LocalEngine
from cloud_worker.monitoring.health import HealthPages
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.session.job import Rows
from cloud_worker.target_model import TargetModel
from cloud_worker.worker import Worker, serve
from edge_agent.draft_model.draft_model import DraftModel, Logits
from evaluation.help_format import command_parser

COMPUTES = "a pass computes"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class SlowedDraft:
    """A draft model that takes at least `seconds` per run; `num_read` notes what each call has to read."""

    model: DraftModel
    seconds: float
    num_read: list[int] = field(default_factory=list[int])
    _num_prompt: int = 0

    @property
    def max_positions(self) -> int:
        """The model's."""
        return self.model.max_positions

    @property
    def cached(self) -> Sequence[int]:
        """The model's."""
        return self.model.cached

    def another(self) -> "SlowedDraft":
        """One more sequence, as slow; what it reads is noted in the same place."""
        return SlowedDraft(self.model.another(), self.seconds, self.num_read)

    def begin_text(self, num_prompt: int) -> None:
        """As the model."""
        self._num_prompt = num_prompt
        self.model.begin_text(num_prompt)

    def num_unread(self, tokens: Sequence[int], num_prompt: int) -> int:
        """As the model."""
        return self.model.num_unread(tokens, num_prompt)

    def logits(self, tokens: Sequence[int]) -> Logits:
        """Return the model's logits after at least `seconds`."""
        began = time.monotonic()
        logits = self.model.logits(tokens)
        time.sleep(max(0.0, self.seconds - (time.monotonic() - began)))
        return logits

    def reading(self, tokens: Sequence[int]) -> Generator[tuple[int, int], None, Logits]:
        """As the model, but each run takes at least `seconds`."""
        self.num_read.append(self.model.num_unread(tokens, self._num_prompt))
        steps = self.model.reading(tokens)
        while True:
            began = time.monotonic()
            try:
                progress = next(steps)
            except StopIteration as end:
                time.sleep(max(0.0, self.seconds - (time.monotonic() - began)))
                return end.value
            time.sleep(max(0.0, self.seconds - (time.monotonic() - began)))
            yield progress


class SlowedTarget(TargetModel):
    """A target model that takes at least `seconds` per forward pass, and logs what it had to compute."""

    seconds = 0.0

    def logits(self, passes: Sequence[Pass]) -> list[Rows]:
        """Return what TargetModel.logits does, after at least `seconds`."""
        began = time.monotonic()
        _log.info("%s: %d positions", COMPUTES, sum(self.num_missing(one) for one in passes))
        rows = super().logits(passes)
        time.sleep(max(0.0, self.seconds - (time.monotonic() - began)))
        return rows


def main() -> None:
    """Run a slowed worker until it is stopped."""
    parser = command_parser("benchmarks.support.slowed", __doc__)
    parser.add_argument("--pass-ms", type=float, required=True, help="the least time per forward pass")
    parser.add_argument("--broker", required=True, help="mqtt://host:port")
    parser.add_argument("--worker", default="slowed", help="the worker's name")
    parser.add_argument("--model", default="demo", help="the target model")
    flags = parser.parse_args()
    logging.basicConfig(level="INFO")
    config = WorkerConfig(broker=flags.broker, worker=flags.worker, model=flags.model)
    SlowedTarget.seconds = flags.pass_ms / 1000
    model = SlowedTarget.load(flags.model, num_threads=1)
    asyncio.run(serve(Worker(config, LocalEngine(model)), HealthPages(config)))


if __name__ == "__main__":
    main()
