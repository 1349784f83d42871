"""The thread of the draft model, on which several conversations take turns.

Law: one run of the model at a time. `Turns` decides whose is next; a call that takes several runs, because it
reads a prompt, lets others go between two of them. The pace holds over all conversations together.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, TypeVar

from common.process.model_thread import ModelThread, in_loop
from edge_agent.device.power import Pace
from edge_agent.slots.processor_time import ProcessorTime
from edge_agent.slots.turns import Turns

Result = TypeVar("Result")
Steps: TypeAlias = Generator[object, None, Result]  # each step is a run; the last one returns the result


@dataclass(slots=True)
class _Call:
    steps: Steps[Any]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"
    has_left: bool = False

    def settle(self, outcome: Callable[[], object]) -> None:
        in_loop(self.loop, lambda: self.future.done() or outcome())


class DraftThread:
    """`with DraftThread() as thread: await thread.start(key, steps)`; leaving it waits for all calls."""

    def __init__(self, pace: Pace | None = None) -> None:
        self._pace = pace or Pace()
        self._thread = ModelThread()
        self._lock = threading.Lock()  # of what follows, which both threads use
        self._turns: Turns[Hashable] = Turns()
        self._calls: dict[Hashable, _Call] = {}
        self._processor: ProcessorTime[Hashable] = ProcessorTime()
        self._last: _Call | None = None

    def __enter__(self) -> Self:
        self._thread.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.__exit__(*error)

    def start(self, key: Hashable, steps: Steps[Result], *, reads: bool = False) -> "asyncio.Future[Result]":
        """Run `steps` in turn with the calls of other keys; a key has one call at a time.

        `reads` says that its first step reads a prompt. Cancelling the future does not stop it: `leave` does.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        with self._lock:
            self._calls[key] = _Call(steps, loop, future)
            self._turns.wait(key, reads=reads)
        self._thread.put(self._step)
        return future

    def run(self, function: Callable[[], Result]) -> "asyncio.Future[Result]":
        """Call `function` once in the thread, after the runs that wait now."""
        return self._thread.start(function)

    def leave(self, key: Hashable) -> None:
        """Take back the call of `key`, if there is one: its future is cancelled, after a run at most."""
        with self._lock:
            call = self._calls.get(key)
            if call is None:
                return
            call.has_left = True
            is_waiting = self._turns.leave(key)
            if is_waiting:
                del self._calls[key]
        if is_waiting:
            call.steps.close()
            call.future.cancel()

    def begin(self, key: Hashable) -> None:
        """Count processor time for `key` from now on."""
        with self._lock:
            self._processor.begin(key, time.process_time())

    def end(self, key: Hashable) -> float:
        """The processor seconds of `key` since `begin`: those of its runs, and its part of the rest."""
        with self._lock:
            return self._processor.end(key, time.process_time())

    def _step(self) -> None:
        """Run one step of the call whose turn it is, and have it go on if it is not over."""
        with self._lock:
            key = self._turns.next()
            if key is None:  # it has left
                return
            call = self._calls[key]
        if call is not self._last and (rest := self._pace.rest(time.monotonic())):
            time.sleep(rest)
        is_shared = self._processor.is_shared
        if is_shared:
            with self._lock:
                self._processor.run_begins(key, time.process_time())
        began = time.monotonic()
        outcome = None if call.has_left else _next(call)
        ended = time.monotonic()
        self._pace.worked(began, ended)
        with self._lock:
            if is_shared:
                self._processor.run_ends(time.process_time())
            self._turns.ended(ended - began)
            goes_on = outcome is None and not call.has_left
            if goes_on:
                self._turns.wait(key, reads=True)
            else:
                del self._calls[key]
        self._last = call if goes_on else None
        if goes_on:
            self._thread.put(self._step)
            return
        if outcome is None:
            call.steps.close()
            outcome = call.future.cancel
        call.settle(outcome)


def _next(call: _Call) -> Callable[[], object] | None:
    """Run a step; what settles the future, unless there are more."""
    try:
        next(call.steps)
    except StopIteration as end:
        result = end.value
        return lambda: call.future.set_result(result)
    except BaseException as error:  # noqa: BLE001 - raised again where the future is awaited
        failure = error
        return lambda: call.future.set_exception(failure)
    return None
