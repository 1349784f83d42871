"""Local processes end with the command that started them, also when SIGTERM ends it.

Law: by default SIGTERM ends a Python process past every `finally`, and broker and workers would run on.
"""

import signal
import subprocess
import sys
import threading

TERMINATED = 128 + signal.SIGTERM  # the exit code of a process that SIGTERM has ended


def close_on_sigterm() -> None:
    """From now on, SIGTERM raises SystemExit here, unless the program handles or ignores it."""
    is_main = threading.current_thread() is threading.main_thread()  # others may set no handler
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def stop_process(process: "subprocess.Popen[bytes]", timeout: float) -> None:
    """SIGTERM, and SIGKILL if the process has not ended `timeout` seconds later; waits for the end."""
    process.terminate()
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end(_number: int, _frame: object) -> None:
    sys.exit(TERMINATED)
