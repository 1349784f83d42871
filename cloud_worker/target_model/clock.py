"""How long the first part of some work on a device takes, without waiting for it at the end of that part."""

import time

import torch


class Clock:
    """Begins when it is made; `mark` ends the part that is measured."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if self._is_cuda else []
        self._began = self._ended = time.perf_counter()
        if self._is_cuda:
            self._events[0].record()

    def mark(self) -> None:
        """The part ends here, in the order in which the device works."""
        self._ended = time.perf_counter()
        if self._is_cuda:
            self._events[1].record()

    def seconds(self) -> float:
        """How long it took; on a GPU only once the host has waited for what follows."""
        if self._is_cuda:
            self._events[1].synchronize()
            return self._events[0].elapsed_time(self._events[1]) / 1000
        return self._ended - self._began
