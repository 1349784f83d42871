"""mosquitto/: both files in common, and the development broker. Production: test_access_matrix.py."""

from pathlib import Path

import pytest

from common.protocol.codec import MAX_PAYLOAD_BYTES
from evaluation.local.broker import BrokerError, LocalBroker

FOLDER = Path(__file__).parents[2] / "mosquitto"


@pytest.mark.parametrize("name", ["development.conf", "production.conf"])
def test_a_configuration_takes_the_largest_payload_and_does_not_wait_for_fuller_packets(name: str) -> None:
    lines = (FOLDER / name).read_text().splitlines()
    assert f"max_packet_size {MAX_PAYLOAD_BYTES + 1024}" in lines
    assert "set_tcp_nodelay true" in lines


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
