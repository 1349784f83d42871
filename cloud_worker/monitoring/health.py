"""The worker's pages for those who watch it: /metrics, /health and /alive. None while `metrics_port` is 0.

Law: /health is about serving (model loaded and answering, broker reached, not stopping), /alive only about
what a new process would mend: a worker that has lost its broker must not be killed for it, since it would
lose its model too and gain nothing; one whose model hangs must.
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


class Watched(Protocol):
    """What the pages tell about."""

    @property
    def name(self) -> str:
        """The worker's name."""
        ...

    def snapshot(self) -> Snapshot:
        """How it stands now; called in its event loop."""
        ...


class HealthPages:
    """Enter `open` before the model is loaded, so that waiting is visible; call `begin` when it is."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pages: dict[str, Callable[[], HttpPage]] = {}

    @contextmanager
    def open(self) -> Generator[None]:
        """Serve the pages; HttpPagesError when that cannot be."""
        config = self._config
        if not config.metrics_port:
            yield
            return
        import_module(
            "cloud_worker.monitoring.metrics"
        )  # a missing library is told now, not after a long load
        pages = {path: partial(self._page, path) for path in PATHS}
        with HttpPages(config.metrics_host, config.metrics_port, pages):
            yield

    def begin(self, worker: Watched) -> None:
        """From now on, in the running event loop, the pages are about this worker."""
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
