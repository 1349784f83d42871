"""How much a scheduler takes on. Pure values."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on sessions, batches, the queue and memory; times are in seconds."""

    max_sessions: int = 256
    max_sessions_per_device: int = 16
    max_batch: int = 32
    batches_at_once: int = 1
    max_queue: int = 256  # sessions with work waiting
    max_waiting_bytes_per_device: int = 32 << 20
    retry_after: float = 1.0  # how long a refused edge should wait
    seat_seconds: float = 0.0  # a session used this recently is not evicted for another device's new one
    max_wait: float = math.inf  # new sessions that would have to wait longer are refused
