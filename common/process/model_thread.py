"""A thread for a model: calls run one after the other beside the event loop.

Law: a call runs to its end even if no one waits for it, and its result arrives within one turn of the loop.
An executor of the standard library takes two turns and several locks, a fifth more for the round trip.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Self, TypeVar

Result = TypeVar("Result")


class ModelThread:
    """`with ModelThread() as thread: await thread.start(call)`; leaving the block waits for all calls."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._is_open = False

    def __enter__(self) -> Self:
        self._is_open = True
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        self._calls.put(None)
        self._thread.join()

    def start(self, function: Callable[[], Result]) -> "asyncio.Future[Result]":
        """Queue a call after all earlier ones; cancelling the future does not stop it.

        RuntimeError if the thread is not running.
        """
        if not self._is_open:
            raise RuntimeError("the model thread is not running: its owner has been closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def run() -> None:
            try:
                settle = partial(future.set_result, function())
            except BaseException as error:  # noqa: BLE001 - raised again where the future is awaited
                settle = partial(future.set_exception, error)
            in_loop(loop, lambda: future.done() or settle())

        self._calls.put(run)
        return future

    def put(self, call: Callable[[], None]) -> None:
        """Queue a call that raises nothing and that no one awaits; a call may queue more, also at the end."""
        self._calls.put(call)

    def _work(self) -> None:
        while (run := self._calls.get()) is not None:
            run()
        while not self._calls.empty():  # what the last calls have queued
            if (run := self._calls.get()) is not None:
                run()


def in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Have `call` called in the event loop, unless that has been closed, so that no one is waiting."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)
