"""Who may do what at the production broker: each account, each topic, sending and reading; and attacks on it.

Law: SEND and READ are the promise, mosquitto/README.md shows it, and a real mosquitto keeps it. The broker is
made by mosquitto/provision, so the command is tested by the same means.
"""

import asyncio
import dataclasses
import os
import queue
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from common.link import Delivery, Link, LinkError, LinkSettings, Publish
from common.protocol.codec import MAX_PAYLOAD_BYTES
from common.protocol.topics import Topics
from edge_agent.config import AgentConfig
from edge_agent.errors import BrokerError
from evaluation.local.broker import LocalBroker, free_port
from evaluation.local.worker import LocalWorker
from mosquitto.provisioning import ProvisionError
from mosquitto.provisioning.__main__ import main
from mosquitto.provisioning.access import Account, Kind, rules
from mosquitto.provisioning.configuration import find_plugin
from tests.support.processes import answers, generate
from tests.support.production_broker import ProductionBroker, production_broker
from tests.support.served_apps import Served
from tests.support.small_models import FolderOf

README = (Path(__file__).parents[2] / "mosquitto" / "README.md").read_text()
PATIENCE = 10.0


def has_plugin() -> bool:
    try:
        return find_plugin().exists()
    except ProvisionError:
        return False


pytestmark = pytest.mark.skipif(not has_plugin(), reason="mosquitto's dynamic security plugin is not there")


# -- the promise ---------------------------------------------------------------------------------------

ACCOUNTS = {
    "kitchen": ("device", "--pool", "demo", "--home-assistant"),
    "cellar": ("device", "--pool", "demo"),
    "w1": ("worker", "--pool", "demo"),
    "w9": ("worker", "--pool", "other"),
    "lights": ("app", "--device", "kitchen"),
    "home": ("app", "--device", "kitchen", "--home-assistant"),
    "watch": ("operator",),
}
COLUMNS = (*ACCOUNTS, "admin")


class Row(NamedTuple):
    """`names` are the accounts that may; all others may not."""

    topic: str
    names: str = ""


SEND = (
    Row("hlm/v1/demo/open/kitchen/s", "kitchen"),
    Row("hlm/v1/demo/open/cellar/s", "cellar"),
    Row("hlm/v1/other/open/kitchen/s"),
    Row("hlm/v1/demo/draft/w1/kitchen/s", "kitchen"),
    Row("hlm/v1/demo/draft/w1/cellar/s", "cellar"),
    Row("hlm/v1/other/draft/w9/kitchen/s"),
    Row("hlm/v1/correction/kitchen/s", "w1 w9"),
    Row("hlm/v1/worker/w1", "w1 admin"),
    Row("hlm/v1/worker/w9", "w9 admin"),
    Row("hlm/v1/device/kitchen", "kitchen admin"),
    Row("hlm/v1/device/cellar", "cellar admin"),
    Row("hlm/v1/app/kitchen/ask", "kitchen lights home"),
    Row("hlm/v1/app/kitchen/cancel", "kitchen lights home"),
    Row("hlm/v1/app/kitchen/set", "kitchen lights home"),
    Row("hlm/v1/app/kitchen/answer", "kitchen"),
    Row("hlm/v1/app/kitchen/token/a1", "kitchen"),
    Row("hlm/v1/app/kitchen/state", "kitchen"),
    Row("hlm/v1/app/kitchen/reply/lights", "kitchen"),
    Row("hlm/v1/app/cellar/ask", "cellar"),
    Row("hlm/v1/app/cellar/answer", "cellar"),
    Row("homeassistant/device/hlm_kitchen/config", "kitchen home"),
    Row("homeassistant/device/hlm_cellar/config", "home"),
    Row("homeassistant/status", "home"),
    Row("hlm/v1/demo/open/kitchen"),
    Row("hlm/v1/demo/open/kitchen/s/t"),
    Row("hlm/v2/demo/open/kitchen/s"),
    Row("anything/else"),
    Row("$SYS/broker/uptime"),
    Row("$share/demo/hlm/v1/demo/open/kitchen/s"),
    Row("$CONTROL/dynamic-security/v1", "admin"),
    Row("$CONTROL/other/v1"),
)
READ = (
    Row("$share/demo/hlm/v1/demo/open/+/+", "w1"),
    Row("$share/other/hlm/v1/other/open/+/+", "w9"),
    Row("$share/spy/hlm/v1/demo/open/+/+"),
    Row("$share/demo/hlm/v1/demo/open/kitchen/+"),
    Row("$share/demo/hlm/v1/correction/kitchen/+"),
    Row("$share/demo/#"),
    Row("hlm/v1/demo/open/+/+"),
    Row("hlm/v1/demo/open/kitchen/+"),
    Row("hlm/v1/demo/draft/w1/+/+", "w1"),
    Row("hlm/v1/other/draft/w9/+/+", "w9"),
    Row("hlm/v1/demo/draft/+/+/+"),
    Row("hlm/v1/demo/#"),
    Row("hlm/v1/correction/kitchen/+", "kitchen"),
    Row("hlm/v1/correction/cellar/+", "cellar"),
    Row("hlm/v1/correction/kitchen/#"),
    Row("hlm/v1/correction/+/+"),
    Row("hlm/v1/correction/#"),
    Row("hlm/v1/worker/+", "watch"),
    Row("hlm/v1/worker/w1", "watch"),
    Row("hlm/v1/worker/#"),
    Row("hlm/v1/device/+", "watch"),
    Row("hlm/v1/device/kitchen", "lights home watch"),
    Row("hlm/v1/device/cellar", "watch"),
    Row("hlm/v1/app/kitchen/ask", "kitchen lights home"),
    Row("hlm/v1/app/kitchen/#", "lights home"),
    Row("hlm/v1/app/kitchen/answer", "lights home"),
    Row("hlm/v1/app/cellar/ask", "cellar"),
    Row("hlm/v1/app/cellar/#"),
    Row("homeassistant/status", "kitchen home"),
    Row("homeassistant/#", "home"),
    Row("hlm/v1/app/+/answer"),
    Row("$SYS/#", "watch"),
    Row("$SYS/broker/uptime", "watch"),
    Row("$share/spy/$SYS/#"),
    Row("$CONTROL/dynamic-security/v1/response", "admin"),
    Row("$CONTROL/#"),
    Row("#"),
    Row("+/+/#"),
    Row("hlm/#"),
    Row("hlm/v1/#"),
    Row("hlm/v1/+/+/#"),
)


def table() -> str:
    """The promise as mosquitto/README.md shows it."""
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for title, rows in (("send to", SEND), ("subscribe to", READ)):
        lines.append(f"| **{title}** |{' |' * len(COLUMNS)}")
        for row in (row for row in rows if row.names):
            cells = ["yes" if name in row.names.split() else "" for name in COLUMNS]
            lines.append(f"| `{row.topic}` | {' | '.join(cells)} |".replace("  ", " "))
    for title, rows in (("send to", SEND), ("subscribe to", READ)):
        lines += [
            "",
            f"No one may {title} " + ", ".join(f"`{row.topic}`" for row in rows if not row.names) + ".",
        ]
    return "\n".join(lines)


def test_the_readme_shows_the_matrix() -> None:
    assert table() in README, f"put this into mosquitto/README.md:\n{table()}"


# -- the broker and raw clients ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProductionBroker]:
    with production_broker(tmp_path_factory.mktemp("production")) as broker:
        for name, (kind, *more) in ACCOUNTS.items():
            broker.add(kind, name, *more)
        yield broker


class RawClient:
    """paho as it is: sends what it is told, and hands out the broker's reason codes."""

    def __init__(
        self, broker: ProductionBroker, name: str, client_id: str = "", *, lasting: bool = False, **will: Any
    ) -> None:
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.ended = threading.Event()
        self._codes: queue.Queue[list[int]] = queue.Queue()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        self.client.tls_set(ca_certs=broker.ca_file)
        self.client.username_pw_set(name, broker.password(name))
        if will:
            self.client.will_set(**will)
        self.client.on_connect = lambda _1, _2, _3, code, _5: self._codes.put([code.value])
        self.client.on_subscribe = lambda _1, _2, _3, codes, _5: self._codes.put(
            [code.value for code in codes]
        )
        self.client.on_publish = lambda _1, _2, _3, code, _5: self._codes.put([code.value])
        self.client.on_message = lambda _1, _2, message: self.messages.put(
            (message.topic, bytes(message.payload))
        )
        self.client.on_disconnect = lambda _1, _2, _3, _4, _5: self.ended.set()
        self.client.connect(
            "127.0.0.1",
            broker.broker.port,
            keepalive=20,
            clean_start=not lasting,
            properties=_lasting() if lasting else None,
        )
        self.client.loop_start()
        assert self._answer() == [0]

    def subscribe(self, *topics: str) -> list[bool]:
        """Which of the subscriptions the broker grants."""
        self.client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in topics])
        return [code < 0x80 for code in self._answer()]

    def publish(self, topic: str, payload: bytes = b"", *, retain: bool = False) -> bool:
        """Whether the broker takes it."""
        self.client.publish(topic, payload, qos=1, retain=retain)
        return self._answer()[0] < 0x80

    def received(self, seconds: float = 0.3) -> list[tuple[str, bytes]]:
        """What has come, after a while."""
        time.sleep(seconds)
        return [self.messages.get() for _ in range(self.messages.qsize())]

    def hang_up(self) -> None:
        """Vanish without a word, so that the will is published."""
        sock = self.client.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(2)
        assert self.ended.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _answer(self) -> list[int]:
        return self._codes.get(timeout=PATIENCE)


def _lasting() -> Properties:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    return properties


def run(scenario: Any) -> None:
    asyncio.run(asyncio.wait_for(scenario, 2 * PATIENCE))


async def _enter(settings: LinkSettings) -> None:
    async with Link(settings):
        pass


# -- the matrix ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COLUMNS)
def test_an_account_may_do_what_the_matrix_says_and_nothing_else(
    production: ProductionBroker, name: str
) -> None:
    with RawClient(production, name) as client:
        granted = dict(
            zip((row.topic for row in READ), client.subscribe(*(row.topic for row in READ)), strict=True)
        )
        sent = {row.topic: client.publish(row.topic) for row in SEND}
    assert granted == {row.topic: name in row.names.split() for row in READ}
    assert sent == {row.topic: name in row.names.split() for row in SEND}


def test_what_is_refused_reaches_nobody_at_quality_of_service_0_either(production: ProductionBroker) -> None:
    with RawClient(production, "w1") as worker, RawClient(production, "cellar") as cellar:
        worker.subscribe("$share/demo/hlm/v1/demo/open/+/+", "hlm/v1/demo/draft/w1/+/+")
        cellar.subscribe("hlm/v1/correction/cellar/+", "hlm/v1/app/cellar/ask")
        with RawClient(production, "kitchen") as kitchen:
            for row in SEND:
                kitchen.client.publish(row.topic, b"from kitchen", qos=0)
            assert kitchen.publish("hlm/v1/demo/open/kitchen/last")
        expected = ["open/kitchen/s", "draft/w1/kitchen/s", "open/kitchen/last"]
        assert [topic for topic, _ in worker.received()] == [f"hlm/v1/demo/{rest}" for rest in expected]
        assert cellar.received(0) == []


def test_nobody_enters_without_the_right_password(production: ProductionBroker) -> None:
    strangers = [
        production.settings("kitchen", username=None, password=None),
        production.settings("kitchen", password=None),
        production.settings("kitchen", password="wrong"),
        production.settings("kitchen", password=""),
        production.settings("kitchen", password=production.password("cellar")),
        production.settings("kitchen", username="nobody"),
        production.settings("admin", username="kitchen"),
    ]
    for settings in strangers:
        with pytest.raises(LinkError, match="refused the user name or password"):
            run(_enter(settings))


def test_without_tls_or_with_another_authority_nobody_talks(
    production: ProductionBroker,
) -> None:
    plain = LinkSettings(production.url.replace("mqtts", "mqtt"), username="kitchen", password="x")
    with pytest.raises(LinkError):
        run(_enter(plain))
    with pytest.raises(LinkError, match="is not trusted"):
        run(_enter(production.settings("kitchen", ca_file=None)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_old_versions_of_tls_are_refused(production: ProductionBroker, version: ssl.TLSVersion) -> None:
    def shake(maximum: ssl.TLSVersion) -> str | None:
        context = ssl.create_default_context(cafile=production.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = maximum
        context.set_ciphers("ALL:@SECLEVEL=0")
        with (
            socket.create_connection(("127.0.0.1", production.broker.port)) as sock,
            context.wrap_socket(sock, server_hostname="broker.example.org") as secure,
        ):
            return secure.version()

    assert shake(version) == {ssl.TLSVersion.TLSv1_2: "TLSv1.2"}.get(version, "TLSv1.3")
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        shake(ssl.TLSVersion.TLSv1_1)


# -- attacks -------------------------------------------------------------------------------------------


def test_a_client_id_of_another_takes_nothing_from_it(production: ProductionBroker) -> None:
    with (
        RawClient(production, "kitchen", client_id="edge-kitchen-1") as kitchen,
        RawClient(production, "cellar", client_id="kitchen"),
        RawClient(production, "cellar", client_id="edge-kitchen-1"),
    ):
        assert not kitchen.ended.wait(0.3)
        with RawClient(production, "kitchen", client_id="edge-kitchen-2"):
            assert kitchen.ended.wait(PATIENCE), "one account is one connection"


def test_a_will_needs_the_right_to_send_it(production: ProductionBroker) -> None:
    with RawClient(production, "watch") as watch, RawClient(production, "w1") as worker:
        watch.subscribe("hlm/v1/worker/+", "hlm/v1/device/+")
        worker.subscribe("$share/demo/hlm/v1/demo/open/+/+")
        for topic in ("hlm/v1/device/kitchen", "hlm/v1/worker/w1", "hlm/v1/demo/open/kitchen/s"):
            RawClient(production, "cellar", topic=topic, payload=b"forged", retain=True).hang_up()
        RawClient(production, "cellar", topic="hlm/v1/device/cellar", payload=b"gone").hang_up()
        assert watch.received() == [("hlm/v1/device/cellar", b"gone")]
        assert worker.received(0) == []


def test_a_subscription_that_outlives_its_right_delivers_nothing(production: ProductionBroker) -> None:
    production.add("device", "porch", "--pool", "demo")
    with RawClient(production, "porch", lasting=True) as porch:
        assert porch.subscribe("hlm/v1/correction/porch/+", "hlm/v1/app/porch/ask") == [True, True]
    production.provision("remove", "porch")
    Path(production.password_file("porch")).unlink()
    production.add("app", "porch", "--device", "porch")
    with RawClient(production, "porch", lasting=True) as porch, RawClient(production, "w1") as worker:
        worker.publish("hlm/v1/correction/porch/s", b"not for an app")
        assert porch.publish("hlm/v1/app/porch/ask", b"for an app")
        assert porch.received() == []
    production.provision("remove", "porch")


def test_an_app_reads_no_ask_and_no_setting_of_another_app(production: ProductionBroker) -> None:
    with RawClient(production, "lights") as lights, RawClient(production, "home") as home:
        assert lights.subscribe("hlm/v1/app/kitchen/#", "hlm/v1/app/kitchen/ask") == [True, True]
        for name in ("ask", "cancel", "set"):
            assert home.publish(f"hlm/v1/app/kitchen/{name}", b"private")
        with RawClient(production, "kitchen") as kitchen:
            assert kitchen.publish("hlm/v1/app/kitchen/answer", b"for all apps")
        received = lights.received()
    assert {topic for topic, _ in received} == {"hlm/v1/app/kitchen/answer"}


def test_apps_and_home_assistant_reach_an_agent_with_the_accounts_they_are_given(
    production: ProductionBroker, draft_folder: FolderOf
) -> None:
    def config(device: str) -> AgentConfig:
        return AgentConfig(
            broker=production.url,
            ca_file=production.ca_file,
            username=device,
            password_file=production.password_file(device),
            scheme="slm",
            app_topics=True,
            home_assistant="on",
            model=str(draft_folder("llama")),
            max_tokens=4,
        )

    discovery = "homeassistant/device/hlm_kitchen/config"
    with RawClient(production, "lights") as lights, RawClient(production, "home") as home:
        assert lights.subscribe("hlm/v1/app/kitchen/#") == [True]
        assert home.subscribe("homeassistant/#") == [True]
        with Served(config("kitchen")):
            assert home.messages.get(timeout=PATIENCE)[0] == discovery
            assert lights.publish("hlm/v1/app/kitchen/ask", b'{"id": "a1", "prompt": "hello"}')
            while (received := lights.messages.get(timeout=PATIENCE))[0] != "hlm/v1/app/kitchen/answer":
                pass
            assert b'"id":"a1"' in received[1]
            assert not lights.publish("hlm/v1/app/kitchen/answer", b"{}")
            assert not lights.publish("hlm/v1/app/cellar/ask", b"hello")
            assert not lights.publish(discovery, b"{}")
        with pytest.raises(BrokerError, match="homeassistant/status") as caught, Served(config("cellar")):
            pass
        assert "\n" not in str(caught.value)


def test_without_its_accounts_the_broker_lets_nobody_in(production: ProductionBroker, tmp_path: Path) -> None:
    conf = tmp_path / "lost.conf"
    state = str(production.folder / "state" / "dynamic-security.json")
    conf.write_text(
        (production.folder / "mosquitto.conf").read_text().replace(state, str(tmp_path / "lost.json"))
    )
    with LocalBroker(tmp_path, conf=conf) as broker:
        for username in ("kitchen", "admin", None):
            password = production.password(username) if username else None
            settings = production.settings("kitchen", username=username, password=password)
            moved = dataclasses.replace(settings, url=broker.url.replace("mqtt:", "mqtts:"))
            with pytest.raises(LinkError, match="refused the user name or password"):
                run(_enter(moved))


def test_a_packet_above_the_limit_ends_only_its_own_connection(production: ProductionBroker) -> None:
    with RawClient(production, "kitchen") as kitchen, RawClient(production, "cellar") as cellar:
        kitchen.client.publish("hlm/v1/app/kitchen/ask", bytes(MAX_PAYLOAD_BYTES + 2048))
        assert kitchen.ended.wait(PATIENCE)
        assert cellar.publish("hlm/v1/app/cellar/ask", bytes(MAX_PAYLOAD_BYTES))


def test_a_device_may_speak_in_every_pool_it_was_given_and_in_no_other() -> None:
    device = Account(Kind.DEVICE, "d", pools=("a", "b"))
    sent = " ".join(rules(device, Topics()).send)
    assert all(f"hlm/v1/{pool}/{way}/" in sent for pool in "ab" for way in ("open", "draft"))
    assert rules(device, Topics("other")).send[0] == "other/a/open/d/+"


@pytest.mark.parametrize(
    ("account", "mistake"),
    [
        ((Kind.DEVICE, "a/b", ("p",)), "is not a valid name"),
        ((Kind.DEVICE, "+", ("p",)), "is not a valid name"),
        ((Kind.DEVICE, "d"), "needs at least one pool, got 0"),
        ((Kind.DEVICE, "d", ("worker",)), "choose another"),
        ((Kind.DEVICE, "d", ("p",), ("d",)), "needs no list of devices, got 1"),
        ((Kind.WORKER, "w", ("p", "q")), "needs one pool, got 2"),
        ((Kind.APP, "a"), "needs at least one device, got 0"),
        ((Kind.APP, "a", (), ("#",)), "is not a valid name"),
        ((Kind.OPERATOR, "o", ("p",)), "needs no pool, got 1"),
        ((Kind.WORKER, "w", ("p",), (), True), "has nothing to do with Home Assistant"),
    ],
)
def test_an_account_that_makes_no_sense_is_refused_in_words(account: Any, mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        Account(*account)


# -- the command ---------------------------------------------------------------------------------------


def test_a_password_is_shown_once_works_and_can_be_replaced(
    production: ProductionBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    async def enter(password: str) -> None:
        async with Link(production.settings("admin", username="attic", password=password)) as link:
            await asyncio.to_thread(lambda: None)
            assert link.connected

    def password() -> str:
        found = re.search(r"^password +([0-9a-f]{48})$", capsys.readouterr().out, re.MULTILINE)
        assert found
        return found[1]

    assert production.provision("add", "device", "attic", "--pool", "demo") == 0
    first = password()
    run(enter(first))
    assert production.provision("add", "device", "attic", "--pool", "demo") == 1
    assert "account attic already exists" in capsys.readouterr().err
    assert production.provision("rotate", "attic") == 0
    second = password()
    run(enter(second))
    with pytest.raises(LinkError, match="refused"):
        run(enter(first))
    assert production.provision("list") == 0
    listed = capsys.readouterr().out
    assert re.search(r"^attic +device of pool demo$", listed, re.MULTILINE)
    assert re.search(r"^lights +app for kitchen$", listed, re.MULTILINE)
    assert production.provision("remove", "attic") == 0


def test_the_administrators_password_can_be_replaced(production: ProductionBroker) -> None:
    before = production.password("admin")
    assert production.provision("rotate", "admin") == 0
    assert production.password("admin") != before
    assert production.provision("list") == 0


def test_a_removed_device_is_cut_off_at_once_and_leaves_nothing(production: ProductionBroker) -> None:
    production.add("device", "shed", "--pool", "demo")
    gone = Publish("hlm/v1/device/shed", b"off")

    async def scenario() -> None:
        subscriptions = ["hlm/v1/correction/shed/+"]
        async with Link(production.settings("shed"), subscriptions=subscriptions, will=gone) as shed:
            await shed.send("hlm/v1/device/shed", b"on", qos=1, retain=True)
            assert await asyncio.to_thread(production.provision, "remove", "shed") == 0
            while shed.connected:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.6)
            assert not shed.connected
            async with Link(production.settings("w1")) as worker:
                topic = "hlm/v1/correction/shed/s"
                assert await worker.send(topic, b"x", qos=1) is Delivery.NO_SUBSCRIBERS
        with pytest.raises(LinkError, match="refused the user name or password"):
            async with Link(production.settings("shed")):
                pass

    run(scenario())
    assert "shed" not in (production.folder / "state" / "dynamic-security.json").read_text()
    with RawClient(production, "watch") as watch:
        watch.subscribe("hlm/v1/device/+")
        assert not [message for message in watch.received() if message[0] == "hlm/v1/device/shed"]


def test_accounts_outlive_the_broker(production: ProductionBroker) -> None:
    production.broker.kill()
    production.broker.start()
    for name in ACCOUNTS:
        with RawClient(production, name):
            pass


def test_a_renewed_certificate_is_taken_up_by_a_reload_and_the_rules_stay(
    production: ProductionBroker,
) -> None:
    def served() -> str:
        return ssl.get_server_certificate(("127.0.0.1", production.broker.port))

    before = served()
    production.offline("certificates", "--host", "broker.example.org")
    assert served() == before
    os.kill(production.broker.pid, signal.SIGHUP)
    end = time.monotonic() + PATIENCE
    while served() == before and time.monotonic() < end:
        time.sleep(0.02)
    assert served() != before
    test_nobody_enters_without_the_right_password(production)
    test_an_account_may_do_what_the_matrix_says_and_nothing_else(production, "kitchen")


def test_the_certificates_stand_up_to_strict_clients(production: ProductionBroker) -> None:
    production.offline("certificates", "--client", "kitchen")
    client = production.folder / "admin" / "kitchen.crt"
    for purpose, path in (("sslserver", production.folder / "server.crt"), ("sslclient", client)):
        subprocess.run(
            [
                "openssl",
                "verify",
                "-x509_strict",
                "-purpose",
                purpose,
                "-CAfile",
                production.ca_file,
                str(path),
            ],
            check=True,
            capture_output=True,
        )


def test_secrets_are_for_their_owner_only(production: ProductionBroker) -> None:
    folder = production.folder
    for private in ("admin", "state"):
        assert stat.S_IMODE((folder / private).stat().st_mode) == 0o700
    secrets = [folder / "server.key", folder / "admin" / "ca.key", folder / "admin" / "password"]
    for path in (*secrets, Path(production.password_file("kitchen"))):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    state = (folder / "state" / "dynamic-security.json").read_text()
    assert all(production.password(name) not in state for name in COLUMNS)


def test_nothing_that_exists_is_written_over(
    production: ProductionBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = Path(production.ca_file).read_text()
    assert production.provision("rotate", "kitchen", "--out", production.password_file("kitchen")) == 1
    assert "File exists" in capsys.readouterr().err
    assert "unchanged" in production.offline(
        "certificates", "--host", "broker.example.org", "--client", "kitchen"
    )
    assert Path(production.ca_file).read_text() == authority
    with pytest.raises(AssertionError, match="this broker has accounts"):
        production.offline("init")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["remove", "nobody"], "no account nobody"),
        (["rotate", "nobody"], "no account nobody"),
        (["remove", "admin"], "admin cannot be removed"),
        (["add", "device", "admin", "--pool", "demo"], "choose another"),
        (["add", "worker", "w2"], "worker w2 needs one pool, got 0"),
        (["add", "device", "a b", "--pool", "demo"], "is not a valid name"),
    ],
)
def test_a_mistake_is_one_sentence(
    production: ProductionBroker, command: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert production.provision(*command) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("provision: ")
    assert error.count("\n") == 1
    assert sentence in error


def test_without_a_broker_the_command_names_its_flag(
    production: ProductionBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"mqtts://127.0.0.1:{free_port()}"
    assert main(["list", "--folder", str(production.folder), "--broker", url]) == 1
    error = capsys.readouterr().err
    assert "start mosquitto or set --broker" in error
    assert error.count("\n") == 1


# -- the whole circle ----------------------------------------------------------------------------------


def test_the_circle_gives_the_same_text_as_without_access_rules(
    production: ProductionBroker, broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf
) -> None:
    account = {
        "CA_FILE": production.ca_file,
        "USERNAME": "w1",
        "PASSWORD_FILE": production.password_file("w1"),
    }
    environment = {f"CLOUD_WORKER_{key}": value for key, value in account.items()}
    model, prompt = ("--model", str(family_folder("llama"))), "turn on the kitchen light"
    open_config = AgentConfig(
        broker=broker.url, model=str(draft_folder("llama")), temperature=1.0, max_tokens=40, seed=3
    )
    closed_config = dataclasses.replace(
        open_config,
        broker=production.url,
        ca_file=production.ca_file,
        device="kitchen",
        username="kitchen",
        password_file=production.password_file("kitchen"),
    )
    with ExitStack() as stack:
        workers = [
            LocalWorker(production.url, *model, name="w1", environment=environment),
            LocalWorker(broker.url, *model, name="open-worker"),
        ]
        for worker in workers:  # both at once: each takes seconds to import torch
            stack.push(worker)
            worker.launch()
        for worker in workers:
            worker.wait_ready()
        command_line = Path(f"/proc/{workers[0].pid}/cmdline")
        if command_line.exists():
            assert production.password("w1") not in command_line.read_text()
        closed = asyncio.run(generate(closed_config, prompt))
        assert answers(closed) == answers(asyncio.run(generate(open_config, prompt)))
        assert closed[0].session.tally.num_uplinks > 0


@pytest.mark.parametrize("how", ["mosquitto/provision", "-m mosquitto.provisioning"])
def test_provision_without_the_projects_packages_is_one_sentence(how: str, tmp_path: Path) -> None:
    bare = tmp_path / "python"  # no site-packages, as on a machine where nothing was installed
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o700)
    root = Path(__file__).parents[2]
    command = [how, "list"] if how.startswith("mosquitto") else [str(bare), *how.split(), "list"]
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(bare)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "virtual environment" in done.stderr


def test_provision_with_a_python_that_is_not_there_is_one_sentence() -> None:
    root = Path(__file__).parents[2]
    environment = {"PATH": os.environ["PATH"], "PYTHON": "/nowhere/python"}
    done = subprocess.run(
        ["mosquitto/provision"], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no Python at /nowhere/python" in done.stderr
