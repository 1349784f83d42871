"""A real Home Assistant on this machine, driven as an app drives it: by REST alone, from its first start.

`tests/support/install-home-assistant FOLDER` installs the releases; nothing here reads or writes its storage.
"""

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from evaluation.local.broker import free_port
from tests.support.waiting import until
from tests.support.web_socket import exchange

START_TIMEOUT = 120.0
STOP_TIMEOUT = 30.0
CONFIGURATION = """
homeassistant: {{name: Test, latitude: 52.5, longitude: 13.4, unit_system: metric, time_zone: Europe/Berlin}}
http: {{server_host: 127.0.0.1, server_port: {port}}}
api:
config:
onboarding:
conversation:
frontend:
"""
OWNER = {"name": "Owner", "username": "owner", "password": "a password for tests", "language": "en"}


class HomeAssistantError(Exception):
    """It did not start, or refused a request; the message has its answer."""


def releases(folder: Path) -> list[str]:
    """The installed releases, newest first."""
    return sorted((path.parent.name for path in folder.glob("*/.installed")), reverse=True)


@dataclass
class HomeAssistant:
    """`with HomeAssistant(folder, "2026.11.0") as home: home.add_mqtt(port) ...`: empty at the start."""

    folder: Path  # what was installed
    release: str
    name: str = "test"  # of the configuration: one process for each
    port: int = field(default_factory=free_port)
    token: str = ""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def configuration(self) -> Path:
        return self.folder / self.release / "configs" / self.name

    @property
    def log(self) -> str:
        file = self.configuration / "output.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def __enter__(self) -> Self:
        shutil.rmtree(self.configuration, ignore_errors=True)
        self.configuration.mkdir(parents=True)
        (self.configuration / "configuration.yaml").write_text(CONFIGURATION.format(port=self.port))
        try:
            self.start()
            self._onboard()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.configuration, ignore_errors=True)

    def start(self) -> None:
        """Start the process and wait until it answers."""
        with (self.configuration / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.folder / self.release / "hass"), self.name],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

        def answers() -> bool:
            if self._process is None or self._process.poll() is not None:
                raise HomeAssistantError(f"Home Assistant has ended: {self.log[-2000:]}")
            try:
                self.get("/manifest.json")
            except (OSError, HomeAssistantError):
                return False
            return True

        until(answers, "Home Assistant answers", START_TIMEOUT)

    def stop(self) -> None:
        """Stop it and what it started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process = None

    # -- requests -------------------------------------------------------------------------------------

    def get(self, path: str) -> Any:
        return self._request("GET", path)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        return self._request("POST", path, json.dumps(body or {}).encode())

    def _request(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> Any:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind}, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise HomeAssistantError(f"{path}: {error.code} {error.read().decode()[:500]}") from error
        return json.loads(text) if text.startswith(("{", "[", '"')) else text

    # -- what a person does once ----------------------------------------------------------------------

    def _onboard(self) -> None:
        client = f"{self.url}/"
        code = self.post("/api/onboarding/users", OWNER | {"client_id": client})["auth_code"]
        form = {"grant_type": "authorization_code", "code": code, "client_id": client}
        body = urllib.parse.urlencode(form).encode()
        answer = self._request("POST", "/auth/token", body, "application/x-www-form-urlencoded")
        self.token = answer["access_token"]
        self.post("/api/onboarding/core_config")
        self.post("/api/onboarding/analytics")
        self.post("/api/onboarding/integration", {"client_id": client, "redirect_uri": client})
        if self.release >= "2026":
            self._keep_port()

    def _keep_port(self) -> None:
        """Confirm its address, by WebSocket only: else it restarts on port 8123 after five minutes."""
        said = [{"type": "auth", "access_token": self.token}, {"id": 1, "type": "http/config/promote"}]
        *_, answer = exchange(self.port, "/api/websocket", said)
        if not answer["success"]:
            raise HomeAssistantError(f"the address is not confirmed: {answer}")

    def add(self, handler: str, *answers: Mapping[str, object]) -> Mapping[str, Any]:
        """Set up an integration, as its dialogue does: one answer for each of its forms."""
        step = self.post("/api/config/config_entries/flow", {"handler": handler})
        for answer in answers:
            step = self.post(f"/api/config/config_entries/flow/{step['flow_id']}", answer)
        if step["type"] != "create_entry":
            raise HomeAssistantError(f"{handler} is not set up: {step}")
        return step

    def add_mqtt(self, port: int, username: str = "", password: str = "") -> None:
        """Connect it to a broker on this machine, in the form of its release."""
        answer: dict[str, object] = {"broker": "127.0.0.1", "port": port}
        if username:
            answer |= {"username": username, "password": password}
        if self.release >= "2026":
            answer |= {"protocol": "5", "other_settings": {"set_client_cert": False, "set_ca_cert": "off"}}
        self.add("mqtt", answer)

    # -- what a person sees and does ------------------------------------------------------------------

    def states(self) -> dict[str, dict[str, Any]]:
        """Entity id -> state and attributes."""
        return {one["entity_id"]: one for one in self.get("/api/states")}

    def state(self, entity: str) -> str:
        """`missing` where there is no such entity."""
        return str(self.states().get(entity, {"state": "missing"})["state"])

    def call(self, service: str, entity: str, **data: object) -> None:
        """Call an action such as `text.set_value` on an entity."""
        domain, name = service.split(".")
        self.post(f"/api/services/{domain}/{name}", {"entity_id": entity} | data)

    def ask(self, text: str, agent: str, conversation: str | None = None) -> Mapping[str, Any]:
        """Say something to a conversation agent; its response."""
        body: dict[str, object] = {"text": text, "language": "en", "agent_id": agent}
        if conversation:
            body["conversation_id"] = conversation
        return self.post("/api/conversation/process", body)

    def has(self, entity: str, state: str | Callable[[str], bool], timeout: float = 60.0) -> None:
        """Wait until an entity has a state."""
        test = state if callable(state) else state.__eq__
        until(
            lambda: test(self.state(entity)),
            lambda: f"{entity} is {self.state(entity)}, not {state}",
            timeout,
        )
