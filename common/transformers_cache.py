"""The argument by which a transformers model takes its cache: `past_key_values`, or `cache` from 5.24 on.

Pure: it reads a signature and runs no model.
"""

import inspect
from collections.abc import Callable
from typing import Any

NEW, OLD = "cache", "past_key_values"


def cache_argument(forward: Callable[..., Any]) -> str:
    """The keyword for the key/value cache in a model's `forward`."""
    return NEW if NEW in inspect.signature(forward).parameters else OLD
