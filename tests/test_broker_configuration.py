"""mosquitto/: both configurations start, and the production one keeps devices apart as its README says."""

import asyncio
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from common.codec import MAX_PAYLOAD_BYTES
from common.link import Delivery, Link, LinkError, LinkSettings
from evaluation.local_broker import DEVELOPMENT_CONF, BrokerError, LocalBroker
from tests.certificates import Authority

FOLDER = DEVELOPMENT_CONF.parent
PLUGIN = Path("/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so")
README = (FOLDER / "README.md").read_text()

needs_plugin = pytest.mark.skipif(
    not PLUGIN.exists(), reason="mosquitto's dynamic security plugin is not there"
)


class ProductionBroker:
    """mosquitto/production.conf with throwaway files, and the accounts that the README describes."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        certificate, key = self.authority.issue("server")
        rules = folder / "dynamic-security.json"
        run("mosquitto_ctrl", "dynsec", "init", str(rules), "admin", "password")
        text = (FOLDER / "production.conf").read_text()
        for line in (f"cafile {self.authority.ca_file}", f"certfile {certificate}", f"keyfile {key}"):
            text = re.sub(rf"^{line.split()[0]} .*$", line, text, flags=re.MULTILINE)
        text = re.sub(
            r"^plugin_opt_config_file .*$", f"plugin_opt_config_file {rules}", text, flags=re.MULTILINE
        )
        conf = folder / "production.conf"
        conf.write_text(text)
        self.broker = LocalBroker(folder, conf=conf)
        self.url = f"mqtts://127.0.0.1:{self.broker.port}"

    def obey_readme(self) -> None:
        """Run the commands of the README's two accounts, with a password for each, and one more user."""
        for block in re.findall(r"```sh\n(createClient .*?)```", README, re.DOTALL):
            for line in block.splitlines():
                self.control(line)
        self.control("createClient cellar")

    def control(self, line: str) -> None:
        command = shlex.split(line.replace("$", r"\$"))
        more = ["-p", "password"] if command[0] == "createClient" else []
        run(
            "mosquitto_ctrl",
            *("-h", "127.0.0.1", "-p", str(self.broker.port), "--cafile", self.authority.ca_file),
            *("-u", "admin", "-P", "password", "dynsec", *command, *more),
        )

    def settings(self, username: str, password: str = "password") -> LinkSettings:
        return LinkSettings(self.url, username=username, password=password, ca_file=self.authority.ca_file)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProductionBroker]:
    production = ProductionBroker(tmp_path_factory.mktemp("production"))
    with production.broker:
        production.obey_readme()
        yield production


@needs_plugin
def test_a_device_and_a_worker_with_the_accounts_of_the_readme_can_talk(production: ProductionBroker) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            filters = ["$share/demo/hlm/v1/demo/open/+/+", "hlm/v1/demo/draft/worker-1/+/+"]
            worker = await stack.enter_async_context(
                Link(production.settings("worker-1"), subscriptions=filters)
            )
            device = await stack.enter_async_context(
                Link(production.settings("kitchen"), subscriptions=["hlm/v1/correction/kitchen/+"])
            )
            largest = bytes(MAX_PAYLOAD_BYTES)
            assert await device.send("hlm/v1/demo/open/kitchen/s", largest, qos=1) is Delivery.SENT
            assert len((await worker.receive()).payload) == len(largest)
            await device.send("hlm/v1/demo/draft/worker-1/kitchen/s", b"draft")
            assert (await worker.receive()).payload == b"draft"
            await worker.send("hlm/v1/correction/kitchen/s", b"correction")
            assert (await device.receive()).payload == b"correction"
            assert await worker.send("hlm/v1/worker/worker-1", b"{}", qos=1) is not Delivery.REFUSED
            assert await device.send("hlm/v1/device/kitchen", b"{}", qos=1) is not Delivery.REFUSED

    asyncio.run(asyncio.wait_for(scenario(), 20))


@needs_plugin
@pytest.mark.parametrize(
    "subscription",
    [
        "$share/demo/hlm/v1/demo/open/+/+",
        "$share/other/hlm/v1/demo/open/+/+",
        "$share/demo/#",
        "hlm/v1/demo/open/+/+",
        "hlm/v1/demo/draft/+/+/+",
        "hlm/v1/correction/cellar/+",
        "hlm/v1/correction/+/+",
        "hlm/#",
        "#",
    ],
)
def test_a_device_may_not_read_what_is_not_for_it(production: ProductionBroker, subscription: str) -> None:
    async def scenario() -> None:
        with pytest.raises(LinkError, match="refuses the subscription"):
            async with Link(production.settings("kitchen"), subscriptions=[subscription]):
                pass

    asyncio.run(asyncio.wait_for(scenario(), 20))


@needs_plugin
@pytest.mark.parametrize(
    "topic",
    [
        "hlm/v1/demo/open/cellar/s",
        "hlm/v1/demo/draft/worker-1/cellar/s",
        "hlm/v1/correction/kitchen/s",
        "hlm/v1/worker/worker-1",
        "hlm/v1/device/cellar",
        "$CONTROL/dynamic-security/v1",
    ],
)
def test_a_device_may_not_write_in_the_name_of_others(production: ProductionBroker, topic: str) -> None:
    async def scenario() -> None:
        async with Link(production.settings("kitchen")) as device:
            assert await device.send(topic, b"forged", qos=1) is Delivery.REFUSED

    asyncio.run(asyncio.wait_for(scenario(), 20))


@needs_plugin
def test_nobody_enters_without_the_right_password(production: ProductionBroker) -> None:
    async def enter(settings: LinkSettings) -> None:
        async with Link(settings):
            pass

    anonymous = LinkSettings(production.url, ca_file=production.authority.ca_file)
    for settings in (anonymous, production.settings("kitchen", "wrong"), production.settings("nobody")):
        with pytest.raises(LinkError, match="refused the user name or password"):
            asyncio.run(enter(settings))


def test_a_broker_starts_again_on_its_port_after_a_kill(broker: LocalBroker) -> None:
    port = broker.port
    broker.kill()
    broker.start()
    broker.restart()
    assert broker.port == port


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(
            BrokerError, match=r"mosquitto does not start \(.*Unknown configuration variable .no_such_option"
        ),
        LocalBroker(tmp_path, settings=["no_such_option 1"]),
    ):
        pass


def test_a_missing_mosquitto_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.local_broker.shutil.which", lambda *_args, **_kwargs: None)
    with pytest.raises(BrokerError, match="mosquitto is not installed: install it"):
        LocalBroker(tmp_path).start()
