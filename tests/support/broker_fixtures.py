"""Fixtures with a real, private mosquitto. conftest.py registers this module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.local.broker import LocalBroker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    """A broker of this test's own, from mosquitto/development.conf; it may be killed and started again."""
    with LocalBroker(tmp_path) as local_broker:
        yield local_broker
