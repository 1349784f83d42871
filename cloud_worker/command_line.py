"""`cloud-worker`: the command line."""

import argparse
import asyncio
import gc
import sys
from collections.abc import Sequence

from cloud_worker.config import ENV_PREFIX, WorkerConfig
from cloud_worker.monitoring.health import HealthPages
from common.link import LinkError
from common.process.broker_config import BrokerConfig
from common.process.http_pages import HttpPagesError
from common.process.interrupt import INTERRUPTED, interrupts_raised
from common.process.log import configure_logging, printable
from common.process.settings import CommandLine, SettingsError, add_flags, load, with_flags


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0: stopped on request, 1: could not run, 2: wrong usage)."""
    parser = CommandLine(
        prog="cloud-worker", description="Verify the drafts of edge agents with a large model, over MQTT."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serving = commands.add_parser("run", help="join a pool and verify drafts until stopped", description=_RUN)
    serving.usage = "%(prog)s [OPTIONS]"
    add_flags(serving, WorkerConfig, ENV_PREFIX)
    status = commands.add_parser("status", help="list the workers of a pool", description=_STATUS)
    status.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    add_flags(status, BrokerConfig, ENV_PREFIX)
    flags = parser.parse_args(arguments)
    try:
        config = load(WorkerConfig, flags, ENV_PREFIX)
    except SettingsError as error:
        return _complain(str(error), 2)
    configure_logging(
        config.log_level, config.log_format, text_format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        return _status(config, flags) if flags.command == "status" else _run(config)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)


_RUN = (
    "Load the target model, join the pool, and verify drafts until SIGTERM or Ctrl-C. Every setting is a "
    f"flag, an environment variable ({ENV_PREFIX}NAME), and a key in the TOML file."
)

_STATUS = (
    "List the workers of a pool and the status each last published. The exit code is 0 if a worker takes "
    "new sessions, otherwise 1. It takes the broker settings of run; use an account other than a worker's."
)


def _run(config: WorkerConfig) -> int:
    pages = HealthPages(config)
    try:
        with pages.open():
            return _serve(config, pages)
    except HttpPagesError as error:
        return _complain(str(error), 1)


def _serve(config: WorkerConfig, pages: HealthPages) -> int:
    # torch takes seconds to import, which --help and wrong settings should not wait for
    from cloud_worker.engines.engine import EngineError
    from cloud_worker.target_model import open_engine
    from cloud_worker.worker import Worker, serve

    try:
        with open_engine(config) as engine, interrupts_raised():
            # what was loaded stays: collecting it again under load stops the worker for a quarter of a second
            gc.collect()
            gc.freeze()
            asyncio.run(serve(Worker(config, engine), pages))
    except (EngineError, LinkError, SettingsError) as error:
        return _complain(str(error), 1)
    return 0


def _status(config: WorkerConfig, flags: argparse.Namespace) -> int:
    from cloud_worker.monitoring.status_table import as_json, as_table, is_served
    from common.process.pool_status import pool_statuses

    try:
        with interrupts_raised():
            statuses = asyncio.run(pool_statuses(config))
    except (LinkError, SettingsError) as error:
        return _complain(str(error), 1)
    if flags.json:
        print(as_json(statuses))
    elif statuses:
        print(as_table(statuses))
    if is_served(statuses):
        return 0
    return _complain(
        f"no worker is online in pool {config.pool} at {config.broker}: start one with cloud-worker run", 1
    )


def _complain(message: str, code: int) -> int:
    print(f"cloud-worker: {printable(with_flags(message, WorkerConfig))}", file=sys.stderr)
    return code
