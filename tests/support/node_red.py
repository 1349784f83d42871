"""A real Node-RED on this machine with the example flow, without a browser.

`tests/support/install-node-red FOLDER` installs it.
"""

import json
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from evaluation.local.broker import free_port
from tests.support.waiting import until

FLOW = Path(__file__).parents[2] / "examples" / "node-red" / "flow.json"
START_TIMEOUT = 60.0
SETTINGS = """
module.exports = {{
  uiHost: "127.0.0.1", uiPort: {port}, flowFile: "flow.json", credentialSecret: false,
  editorTheme: {{tours: false}}, telemetry: {{enabled: false}},
  logging: {{console: {{level: "info", metrics: false, audit: false}}}},
}}
"""


@dataclass
class NodeRed:
    """`with NodeRed(installed, folder, broker_port) as flow: flow.ask("...")`."""

    installed: Path
    folder: Path  # of this run
    broker_port: int
    device: str
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "output.log").read_text(errors="replace")

    def __enter__(self) -> Self:
        (self.folder / "settings.js").write_text(SETTINGS.format(port=self.port))
        (self.folder / "flow.json").write_text(json.dumps(self._flow()))
        program = self.installed / "node_modules" / "node-red" / "red.js"
        with (self.folder / "output.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["node", str(program), "--userDir", str(self.folder)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        try:
            until(lambda: "Connected to broker" in self.log, lambda: self.log, START_TIMEOUT)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def _flow(self) -> list[dict[str, Any]]:
        """The example with what a person sets in the editor, and with the debug panel in the log."""
        nodes: list[dict[str, Any]] = json.loads(FLOW.read_text())
        for node in nodes:
            if node["type"] == "mqtt-broker":
                node |= {"broker": "127.0.0.1", "port": str(self.broker_port)}
            if node["type"] == "tab":
                node["env"][0]["value"] = self.device
            if node["type"] == "debug":
                node["console"] = True
        return nodes

    def press(self, node: str) -> None:
        """Press the button of an inject node."""
        self._post(f"/inject/{node}", b"{}")

    def ask(self, prompt: str) -> tuple[int, Any]:
        """Ask over the flow's HTTP node: the status and the answer."""
        return self._post("/ask", json.dumps({"prompt": prompt}).encode())

    def _post(self, path: str, body: bytes) -> tuple[int, Any]:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, json.loads(text) if text.startswith(("{", "[")) else text
