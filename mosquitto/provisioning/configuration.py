"""mosquitto.conf for one folder: production.conf with that folder's paths and this machine's plugin."""

import re
from pathlib import Path

from mosquitto.provisioning import ProvisionError
from mosquitto.provisioning.folder import DEFAULT_FOLDER

TEMPLATE = Path(__file__).resolve().parent.parent / "production.conf"
PLUGIN = "mosquitto_dynamic_security.so"

_PLACES = ("/usr/lib/*", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")


def configuration(folder: Path) -> str:
    """The text of the file; ProvisionError if the plugin is not on this machine."""
    text = TEMPLATE.read_text(encoding="utf-8").replace(str(DEFAULT_FOLDER), str(folder))
    return re.sub(r"^plugin /.*$", f"plugin {find_plugin()}", text, flags=re.MULTILINE)


def find_plugin() -> Path:
    """Where mosquitto's package installed the plugin."""
    for place in _PLACES:
        for path in sorted(Path("/").glob(f"{place.lstrip('/')}/{PLUGIN}")):
            return path
    raise ProvisionError(f"{PLUGIN} is not on this machine: install mosquitto 2 (./mosquitto/install)")
