"""The worker's pages for monitoring systems: /metrics, /health and /alive. Off while `metrics_port` is 0.

Law: /health answers whether the worker can serve (model loaded and responding, broker connected, not
stopping), /alive only whether a restart would help. A worker that has lost its broker must not be restarted:
it would lose its model too and gain nothing. One whose model hangs must be.
"""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Protocol

from cloud_worker.config import WorkerConfig
from cloud_worker.monitoring.snapshot import Snapshot
from common.process.http_pages import HttpPage, HttpPages, made_in
from common.process.version import release

PATHS = ("/metrics", "/health", "/alive")
ALIVE = HttpPage.text("alive")
HUNG = HttpPage.text("the model hangs", status=503)
LOADING = HttpPage.text("the model is loading", status=503)


class Monitored(Protocol):
    """What the pages need of a worker."""

    @property
    def name(self) -> str:
        """The worker's name."""
        ...

    def snapshot(self) -> Snapshot:
        """The worker's state now; called in its event loop."""
        ...


class HealthPages:
    """Enter `open` before loading the model, so that loading is visible; call `begin` once it is loaded."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pages: dict[str, Callable[[], HttpPage]] = {}

    @contextmanager
    def open(self) -> Generator[None]:
        """Serve the pages; HttpPagesError when that is impossible."""
        config = self._config
        if not config.metrics_port:
            yield
            return
        import_module("cloud_worker.monitoring.metrics")  # a missing library fails now, not after a long load
        pages = {path: partial(self._page, path) for path in PATHS}
        with HttpPages(config.metrics_host, config.metrics_port, pages):
            yield

    def begin(self, worker: Monitored) -> None:
        """Show this worker, which runs in the current event loop, from now on."""
        config = self._config
        if not config.metrics_port:
            return
        from cloud_worker.monitoring.metrics import Metrics

        about = {"worker": worker.name, "pool": config.pool, "model": config.model, "version": release()}
        self._pages = {
            "/metrics": Metrics(worker.snapshot, about).page,
            "/health": lambda: _health(worker.snapshot()),
            "/alive": lambda: HUNG if worker.snapshot().hangs else ALIVE,
        }
        self._loop = asyncio.get_running_loop()

    def _page(self, path: str) -> HttpPage:
        if self._loop is None:
            return ALIVE if path == "/alive" else LOADING
        return made_in(self._loop, self._pages[path])


def _health(snapshot: Snapshot) -> HttpPage:
    return HttpPage.text("ready") if snapshot.fault is None else HttpPage.text(snapshot.fault, status=503)
