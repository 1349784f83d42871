"""`cloud-worker`: the command line."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from cloud_worker.config import ENV_PREFIX, WorkerConfig
from cloud_worker.monitoring.health import HealthPages
from common.link import LinkError
from common.process.broker_config import BrokerConfig
from common.process.http_pages import HttpPagesError
from common.process.log import configure_logging
from common.process.settings import CommandLine, SettingsError, add_flags, load, with_flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0: stopped as asked, 1: could not run, 2: wrong usage)."""
    parser = CommandLine(
        prog="cloud-worker", description="Verifies the drafts of edge agents with a large model, over MQTT."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="join a pool and serve until stopped", description=_RUN)
    run.usage = "%(prog)s [OPTIONS]"
    add_flags(run, WorkerConfig, ENV_PREFIX)
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
        return _complain("interrupted", 130)


_RUN = (
    "Loads the target model, joins the pool and verifies drafts until SIGTERM or Ctrl-C. Every setting is a "
    f"flag, an environment variable ({ENV_PREFIX}NAME) and a key of the TOML file."
)

_STATUS = (
    "Lists the workers of a pool as they last told the broker. The exit code is 0 when one of them takes "
    "sessions, 1 when none does. Settings are those of run; take another account than a worker's."
)


def _run(config: WorkerConfig) -> int:
    pages = HealthPages(config)
    try:
        with pages.open():
            return _serve(config, pages)
    except HttpPagesError as error:
        return _complain(str(error), 1)


def _serve(config: WorkerConfig, pages: HealthPages) -> int:
    # torch takes seconds to import: --help and wrong settings need not wait for it
    from cloud_worker.target_model import TargetModelError, open_target_model
    from cloud_worker.worker import Worker, serve

    try:
        with open_target_model(config) as model:
            asyncio.run(serve(Worker(config, model), pages))
    except (TargetModelError, LinkError, SettingsError) as error:
        return _complain(str(error), 1)
    return 0


def _status(config: WorkerConfig, flags: argparse.Namespace) -> int:
    from cloud_worker.monitoring.pool_status import as_json, as_table, is_served, pool_statuses

    try:
        statuses = asyncio.run(pool_statuses(config))
    except (LinkError, SettingsError) as error:
        return _complain(str(error), 1)
    if flags.json:
        print(as_json(statuses))
    elif statuses:
        print(as_table(statuses))
    if is_served(statuses):
        return 0
    return _complain(f"no worker is online in pool {config.pool} at {config.broker}: start one", 1)


def _complain(sentence: str, code: int) -> int:
    print(f"cloud-worker: {with_flags(sentence, WorkerConfig)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
