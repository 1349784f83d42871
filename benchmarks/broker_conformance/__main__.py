"""Try on a broker what agents, workers and apps need of it, one by one, and print a table.

    python -m benchmarks.broker_conformance mqtt://localhost:1883
    python -m benchmarks.broker_conformance    # a private mosquitto, and iotcore if it is installed

The account must be allowed to publish and subscribe below --root, and to have several connections: where the
user name is the client id (mosquitto/production.conf) it may not. What is retained there is removed again.
The exit code is 1 if a broker lacks what is needed in any case, and 2 if it cannot be reached. The rows are
explained in docs/brokers.md.
"""

import argparse
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace

from benchmarks.broker_conformance.catalogue import NEEDS
from benchmarks.broker_conformance.client import Client, NoAnswerError
from benchmarks.broker_conformance.needs import Broker, Finding, Weight
from common.link.settings import LinkError, LinkSettings
from evaluation.help_format import command_parser
from evaluation.local.broker import BrokerError, LocalBroker
from evaluation.local.embedded_broker import EmbeddedBroker


def findings(settings: LinkSettings, root: str) -> Iterator[Finding]:
    """One finding per need, each below a topic of its own."""
    for need in NEEDS:
        try:
            yield need.attempt(Broker(settings, f"{root}/{uuid.uuid4().hex[:8]}"))
        except NoAnswerError as error:
            yield Finding(False, str(error))


def table(found: Mapping[str, list[Finding]]) -> str:
    """The findings of several brokers side by side, in Markdown."""
    rows = [["Need", "Weight", *found, "Without it"], ["---"] * (3 + len(found))]
    for index, need in enumerate(NEEDS):
        rows.append([need.name, need.weight, *(str(each[index]) for each in found.values()), need.without])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def lacks(found: Mapping[str, list[Finding]]) -> list[str]:
    """What must be there and is not."""
    return [
        f"{name}: {need.name}"
        for name, each in found.items()
        for need, finding in zip(NEEDS, each, strict=True)
        if need.weight is Weight.MUST and not finding.met
    ]


def run(flags: argparse.Namespace) -> int:
    """Try each broker and print."""
    account = LinkSettings(username=flags.username, password_file=flags.password_file)
    with ExitStack() as stack:
        brokers = {url: replace(account, url=url, ca_file=flags.ca_file) for url in flags.urls}
        if not brokers:
            brokers["mosquitto"] = LinkSettings(stack.enter_context(LocalBroker()).url)
            if EmbeddedBroker.is_installed():
                brokers["iotcore"] = LinkSettings(stack.enter_context(EmbeddedBroker()).url)
        for settings in brokers.values():
            with Client(settings):  # or it cannot be reached
                pass
        found = {name: list(findings(settings, flags.root)) for name, settings in brokers.items()}
    print(table(found))
    missing = lacks(found)
    for line in missing:
        print(f"missing: {line}", file=sys.stderr)
    return 1 if missing else 0


def main() -> int:
    """Try, print, and return 0 if nothing is missing that must be there."""
    parser = command_parser("benchmarks.broker_conformance", __doc__)
    parser.add_argument("urls", nargs="*", metavar="URL", help="mqtt://host:port or mqtts://host:port")
    parser.add_argument("--root", default="hlm/conformance", help="the topic below which all is tried")
    parser.add_argument("--username", help="the account at the broker")
    parser.add_argument("--password-file", help="a file whose first line is its password")
    parser.add_argument("--ca-file", help="the authority that signed the broker's certificate")
    try:
        return run(parser.parse_args())
    except (BrokerError, LinkError, NoAnswerError) as error:
        print(f"broker_conformance: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
