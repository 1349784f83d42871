"""A worker in virtual time: the real scheduler and sessions, with the loop of `cloud_worker.worker`.

Law: batches are formed as a worker forms them; a pass takes the time that `Compute` gives for its positions.
"""

import time
from collections.abc import Callable, Generator, Sequence

import simpy

from cloud_worker.scheduling.batch import Batch, Outcome
from cloud_worker.scheduling.scheduler import Answer, Limits, Scheduler, SessionKey, Task
from cloud_worker.session.session import Target
from common.protocol.codec import decode_to_device, encode
from common.protocol.messages import ToWorker
from evaluation.models.cached_logits import CachedTarget
from evaluation.simulate.world.compute import Compute

CHUNK_TOKENS = 256  # WorkerConfig's default


class SimulatedWorker:
    """A worker; `send` gets each answer, as decoded from its bytes, for the device's downlink."""

    def __init__(
        self,
        env: simpy.Environment,
        model: CachedTarget,
        tokenizer: bytes,
        compute: Compute,
        send: Callable[[Answer], None],
        limits: Limits | None = None,
    ) -> None:
        """`tokenizer` is the fingerprint of the model's vocabulary."""
        self.num_passes = self.num_positions = 0
        self.judging_seconds = 0.0  # of this machine's processor, beside virtual time
        self.busy_seconds = 0.0
        self._env, self._model, self._compute, self._send_one = env, model, compute, send
        target = Target(
            worker="w1",
            tokenizer=tokenizer,
            vocab_size=max(model.vocabulary.values()) + 1,
            max_tokens=model.max_positions,
            eos_ids=model.eos_ids,
        )
        self._scheduler = Scheduler(target, limits or Limits())
        self._work = env.event()
        env.process(self._verify())

    @property
    def keys(self) -> list[SessionKey]:
        """The sessions that it holds."""
        return list(self._scheduler.keys)

    def receive(self, key: SessionKey, message: ToWorker) -> None:
        """Take a message that has crossed the link and the broker."""
        self._send(self._scheduler.receive(key, message))
        if self._scheduler.num_waiting and not self._work.triggered:
            self._work.succeed()

    def _verify(self) -> Generator[simpy.Event, None, None]:
        """Run the loop of `Verifier.run`."""
        while True:
            yield self._work
            tasks, answers = self._scheduler.next_batch()
            if tasks:
                judged, seconds = self._judged(tasks)
                self.num_passes += 1
                self.busy_seconds += seconds
                yield self._env.timeout(seconds)
                answers += self._scheduler.complete(tasks, judged, 1000 * seconds)
            for key in self._scheduler.take_forgotten():
                self._model.forget(key)
            self._send(answers)
            if not self._scheduler.num_waiting:
                self._work = self._env.event()

    def _judged(self, tasks: Sequence[Task]) -> tuple[list[Outcome], float]:
        """Judge as `Verifier._judge` does, and return how long the pass takes."""
        batch = Batch.of(tasks, self._model.num_missing, CHUNK_TOKENS)
        num_positions = sum(map(self._model.num_missing, batch.passes))
        rows = self._model.logits(batch.passes)
        began = time.process_time()
        judged = batch.judged(rows)
        self.judging_seconds += time.process_time() - began
        self.num_positions += num_positions
        return judged, self._compute.forward(num_positions)

    def _send(self, answers: Sequence[Answer]) -> None:
        for key, message in answers:
            self._send_one(Answer(key, decode_to_device(encode(message))))
