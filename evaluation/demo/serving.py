"""The demo that stays, `make serve`: broker, worker and an agent with its page, until Ctrl-C.

Law: all that was started ends with it, whichever part ends first.
"""

import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from evaluation.demo.broker import demo_broker
from evaluation.local.ending import stop_process
from evaluation.local.worker import LocalWorker, WorkerError

PORT = 8080  # of the page
STOP_TIMEOUT = 20.0  # longer than a stopping agent takes
LOOK_INTERVAL = 0.5


def serve(port: int) -> int:
    """Serve until the agent ends, or an exception such as KeyboardInterrupt; returns the exit code.

    Raises BrokerError or WorkerError when a part cannot be started, or ends.
    """
    with demo_broker() as broker:
        print(f"{broker.program} is listening at {broker.url}; loading the target model ...", flush=True)
        with LocalWorker(broker.url, "--model", "demo") as worker, _agent(broker.url, port) as agent:
            while agent.poll() is None:
                if not worker.is_running:
                    raise WorkerError(f"the worker has ended: {worker.log.strip()[-500:]}")
                time.sleep(LOOK_INTERVAL)
            return agent.returncode


@contextmanager
def _agent(broker_url: str, port: int) -> Generator["subprocess.Popen[bytes]"]:
    """`edge-agent serve`, asked to end at the end, and given the time to.

    In a session of its own: Ctrl-C reaches it once, from here.
    """
    command = [sys.executable, "-m", "edge_agent", "serve", "--model", "demo", "--broker", broker_url]
    agent = subprocess.Popen([*command, "--http-port", str(port)], start_new_session=True)
    try:
        yield agent
    finally:
        stop_process(agent, STOP_TIMEOUT)
