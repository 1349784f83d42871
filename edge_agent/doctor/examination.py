"""Collect the facts: read the machine, load the model for a moment, ask the broker and a worker.

Law: everything is bounded in time, and nothing is changed. What fails becomes a fact, with the one-line
message that `generate` would show.
"""

import signal
import subprocess
import sys
import time

from common.process.version import release
from edge_agent.config import AgentConfig
from edge_agent.device.machine import (
    is_clock_synchronised,
    read_board,
    read_heat,
    read_load,
    read_memory,
    read_processor,
)
from edge_agent.doctor.facts import Facts, Machine, Runtime

START_TIMEOUT = 60.0  # seconds for ONNX Runtime to load, on a slow card


def examine_machine() -> Machine:
    """The machine, without our programs."""
    return Machine(
        processor=read_processor(),
        board=read_board(),
        load=read_load(),
        memory=read_memory(),
        heat=read_heat(),
        year=time.gmtime().tm_year,
        clock_synchronised=is_clock_synchronised(),
    )


def examine_runtime() -> Runtime:
    """ONNX Runtime, first in a process of its own: on some processors some of its builds crash."""
    if (death := _death_of_import()) is not None:
        return Runtime(problem=f"ONNX Runtime crashes on this processor ({death})")
    try:
        from edge_agent.draft_model.onnx_session import runtime
    except ImportError as error:
        return Runtime(problem=f"ONNX Runtime cannot be loaded ({' '.join(str(error).split())})")
    version, providers = runtime()
    return Runtime(version, providers)


async def examine(config: AgentConfig) -> Facts:
    """All facts, with the settings of `config`."""
    machine, runtime, model, cloud = examine_machine(), examine_runtime(), None, None
    if runtime.problem is None:
        # these load ONNX Runtime
        from edge_agent.doctor.cloud_probe import examine_cloud
        from edge_agent.doctor.model_probe import examine_model

        loaded, model = examine_model(config, machine)
        if config.needs_cloud:
            cloud = await examine_cloud(config, loaded)
    return Facts(release(), machine, runtime, model, cloud, config.max_tokens)


def _death_of_import() -> str | None:
    """The signal that ends a process as it loads ONNX Runtime; None if it lives, or cannot be started."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import onnxruntime"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=START_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return signal.Signals(-done.returncode).name if done.returncode < 0 else None
