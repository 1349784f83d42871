"""mosquitto/: both files in common, and the development broker. Production: test_access_matrix.py."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from common.protocol.codec import MAX_PAYLOAD_BYTES
from evaluation.local.broker import BrokerError, LocalBroker
from tests.support.certificates import Authority
from tests.support.narrowing import present

FOLDER = Path(__file__).parents[2] / "mosquitto"


@pytest.mark.parametrize("name", ["development.conf", "production.conf"])
def test_a_configuration_takes_the_largest_payload_and_does_not_wait_for_fuller_packets(name: str) -> None:
    lines = (FOLDER / name).read_text().splitlines()
    assert f"max_packet_size {MAX_PAYLOAD_BYTES + 1024}" in lines
    assert "set_tcp_nodelay true" in lines


def number(name: str, pattern: str) -> int:
    """The number after this in a configuration."""
    return int(present(re.search(rf"^\s*{pattern} (\d+)", (FOLDER / name).read_text(), re.MULTILINE))[1])


def test_the_proxy_agrees_with_the_broker_behind_it() -> None:
    assert number("haproxy.cfg", "frontend mqtts\n(?:.*\n)*?    maxconn") == number(
        "production.conf", "max_connections"
    )
    longest_silence = 1.5 * number("production.conf", "max_keepalive")
    assert 60 * number("haproxy.cfg", "timeout tunnel") > longest_silence


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is not installed")
def test_the_proxys_configuration_is_one(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pem = tmp_path / "broker.pem"
    pem.write_text("".join(Path(file).read_text() for file in authority.issue("broker")))
    text = (FOLDER / "haproxy.cfg").read_text().replace("/etc/haproxy/broker.pem", str(pem))
    text = text.replace("/var/lib/hybrid-lm/ca.crt", authority.ca_file)
    (tmp_path / "haproxy.cfg").write_text(text)
    subprocess.run(["haproxy", "-c", "-f", str(tmp_path / "haproxy.cfg")], check=True)


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
    def nothing(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr("evaluation.local.broker.shutil.which", nothing)
    with pytest.raises(BrokerError, match="mosquitto is not installed: install it"):
        LocalBroker(tmp_path).start()
