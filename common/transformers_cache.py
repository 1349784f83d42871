"""What a transformers model calls its key/value cache: `past_key_values`, and `cache` since release 5.24.

Pure: a signature is read, no model is run.
"""

import inspect
from collections.abc import Callable
from typing import Any

NEW, OLD = "cache", "past_key_values"


def cache_argument(forward: Callable[..., Any]) -> str:
    """The keyword that a model's `forward` takes its cache by."""
    return NEW if NEW in inspect.signature(forward).parameters else OLD
