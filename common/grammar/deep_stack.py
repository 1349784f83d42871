"""Runs a call with a deep stack, for code that recurses as deep as its input is nested.

Law: a grammar of the largest size cannot overflow the stack, which would end the process. Chains of Lark
rules recurse once per rule and use 70 MB at most, where a thread has 8 MB; only what is used takes memory.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

STACK_BYTES = 256 << 20

Result = TypeVar("Result")

_lock = threading.Lock()  # `threading.stack_size` is the process's


def with_deep_stack(call: Callable[[], Result]) -> Result:
    """The result of `call` in a thread of its own, or what it raises; blocks until it is over."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run, name="grammar", daemon=True)
    with _lock:
        usual = threading.stack_size(STACK_BYTES)
        try:
            thread.start()
        finally:
            threading.stack_size(usual)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
