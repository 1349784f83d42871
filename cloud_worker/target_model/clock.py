"""How long a forward pass and judging take, without waiting for a device in between."""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from cloud_worker.engines.engine import Part, Verified


class Clock:
    """Begins when it is made; `mark` ends the forward pass.

    A GPU works behind the host: judging is then what it takes in all, beyond the forward pass.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if self._is_cuda else []
        self._began = self._ended = time.perf_counter()
        if self._is_cuda:
            self._events[0].record()

    def mark(self) -> None:
        """The forward pass ends here, in the order in which the device works."""
        self._ended = time.perf_counter()
        if self._is_cuda:
            self._events[1].record()

    def measured(self, parts: Sequence[Part]) -> Verified:
        """The parts with what the forward pass took; call it once the device has nothing more to do."""
        if not self._is_cuda:
            return Verified(parts, self._ended - self._began)
        self._events[1].synchronize()
        forward = self._events[0].elapsed_time(self._events[1]) / 1000
        judging = max(0.0, time.perf_counter() - self._began - forward)
        shares = sum(part.judging_seconds for part in parts)
        factor = judging / shares if shares else 0.0
        scaled = [replace(part, judging_seconds=factor * part.judging_seconds) for part in parts]
        return Verified(scaled, forward)
