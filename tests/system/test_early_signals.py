"""Signals while a command starts and while it exits: one line and code 130, or death by the signal.

Each signal is sent when a certain module has been imported, so that no test depends on the machine's speed.
What comes before the first of our modules is the start of the interpreter, which no program can change.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.narrowing import present

IMPORT = "import time:"  # begins a line of `python -X importtime`
TIMEOUT = 60.0
COMMANDS = {
    "generate": (("edge_agent", "generate", "--scheme", "slm", "hi"), ("argparse", "numpy", "onnxruntime")),
    "chat": (("edge_agent", "chat", "--scheme", "slm"), ("numpy.random", "jinja2", "tokenizers")),
    "doctor": (("edge_agent", "doctor", "--scheme", "slm"), ("argparse", "numpy.linalg")),
    "run": (("cloud_worker", "run", "--broker", "mqtt://127.0.0.1:1"), ("asyncio", "torch.torch_version")),
    "status": (("cloud_worker", "status", "--broker", "mqtt://127.0.0.1:1"), ("numpy", "aiomqtt")),
    "evaluation": (("evaluation", "bytes"), ("argparse", "numpy", "tqdm")),
    "provision": (("mosquitto.provisioning", "list", "--folder", "/nowhere"), ("argparse", "ssl")),
}
MOMENTS = [(name, module) for name, (_, modules) in COMMANDS.items() for module in modules]


def signalled(arguments: tuple[str, ...], module: str, number: signal.Signals) -> tuple[int, list[str]]:
    """Send the signal once `module` is imported; the exit code, and what else is on standard error."""
    command = [sys.executable, "-X", "importtime", "-m", *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        for line in present(process.stderr):
            if line.rpartition("|")[2].strip() == module:
                break
        else:
            pytest.fail(f"{arguments} does not import {module}")
        process.send_signal(number)
        _, rest = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    return process.returncode, [line for line in rest.splitlines() if not line.startswith(IMPORT)]


@pytest.mark.parametrize(("name", "module"), MOMENTS)
def test_ctrl_c_while_a_command_is_imported_is_one_line(name: str, module: str) -> None:
    code, said = signalled(COMMANDS[name][0], module, signal.SIGINT)
    assert (code, len(said)) == (130, 1), said
    assert said[0].endswith(": interrupted")


@pytest.mark.parametrize("name", ["generate", "status", "provision"])
def test_sigterm_while_a_command_is_imported_ends_it(name: str) -> None:
    arguments, (first, *_) = COMMANDS[name]
    assert signalled(arguments, first, signal.SIGTERM) == (-signal.SIGTERM, [])


ENTRY = """
import os, sys
sys.path.insert(0, sys.argv[2])
before = set(sys.modules)
__import__(sys.argv[1])
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


@pytest.mark.parametrize("package", ["edge_agent", "cloud_worker", "evaluation", "mosquitto.provisioning"])
def test_ctrl_c_is_handled_before_anything_is_imported(package: str) -> None:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-I", "-S", "-c", ENTRY, f"{package}.__main__", root]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert done.stdout.split() == sorted({"common", package.partition(".")[0]})


PROGRAM = """
import atexit, os, signal
from common.process.interrupt import exit_on_interrupt, interrupts_raised
exit_on_interrupt("program")
try:
    with interrupts_raised():
        os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("closed", flush=True)
atexit.register(os.kill, os.getpid(), signal.SIGINT)
"""


def test_ctrl_c_closes_what_is_open_and_as_the_program_exits_it_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "closed\n", "program: interrupted\n")


def test_a_command_that_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    program = PROGRAM.replace("import atexit", "import signal; signal.signal(2, 1); import atexit")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_sigterm_ends_the_broker_of_a_command_with_it() -> None:
    program = (
        "import time; from evaluation.local.broker import LocalBroker\n"
        "with LocalBroker() as broker: print(broker.pid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        broker = int(present(process.stdout).readline())
        process.terminate()
        assert process.wait(TIMEOUT) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert not Path(f"/proc/{broker}").exists()
