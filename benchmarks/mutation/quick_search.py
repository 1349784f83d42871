"""A pytest plugin for trials: no test that needs a broker or a real model, and the same examples each time.

Hypothesis looks for no smaller example of a failure: one is enough.
"""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

FIXTURES = re.compile(r"^@pytest\.fixture.*\ndef (\w+)", re.MULTILINE)

settings.register_profile(
    "mutation",
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("mutation")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that use a fixture of tests/support."""
    texts = [path.read_text(encoding="utf-8") for path in Path("tests/support").glob("*_fixtures.py")]
    slow = {name for text in texts for name in FIXTURES.findall(text)}
    left_out = [item for item in items if isinstance(item, pytest.Function) and slow & set(item.fixturenames)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
