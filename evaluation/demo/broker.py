"""The demo's broker: mosquitto, or iotcore where mosquitto is missing.

Law: what the demo shows with iotcore is said to be so, with what it lacks.
"""

import sys

from evaluation.local.broker import BrokerError, LocalBroker, has_mosquitto
from evaluation.local.embedded_broker import LACKS, EmbeddedBroker


def demo_broker() -> LocalBroker | EmbeddedBroker:
    """A broker to enter; BrokerError where neither is installed."""
    if has_mosquitto():
        return LocalBroker()
    if not EmbeddedBroker.is_installed():
        raise BrokerError(
            "mosquitto is not installed: install it (Debian: apt install mosquitto), or iotcore in its place "
            "(pip install iotcore)"
        )
    print(f"demo: mosquitto is missing, iotcore takes its place: {LACKS}", file=sys.stderr, flush=True)
    return EmbeddedBroker()
