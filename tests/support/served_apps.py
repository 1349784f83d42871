"""An agent that answers apps over MQTT, in a thread of the test's process."""

import asyncio
import threading

from edge_agent import app_topics
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.service.service import Service


class Served:
    """An agent that answers apps, in a thread of its own."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self.service: Service | None = None
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 - raised where the test waits
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with EdgeAgent.open(self.config, for_apps=True) as agent:
            self.service = Service(agent, max_waiting=self.config.max_waiting)
            async with app_topics.serving(self.service, self.config):
                self._ready.set()
                await self._end.wait()
                await self.service.close(self.config.shutdown_timeout)

    def __enter__(self) -> "Served":
        self._thread.start()
        assert self._ready.wait(30)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)
        assert not self._thread.is_alive()
