"""Credentials that change while a process runs: passwords, and certificates that expire."""

import asyncio
import re
import ssl
import subprocess
import time
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_worker.monitoring.status_table import as_table
from common.link import Link, LinkError, LinkSettings
from common.link.certificates import certificates_of, expiry
from common.link.values import Certificate, LinkStatistics, days_left
from common.process.prometheus import MetricFamilies
from common.protocol.worker_status import State, Status, StatusError, read_status
from evaluation.local.broker import LocalBroker, free_port
from tests.support.certificates import Authority

PATIENCE = 20.0
DAY = 24 * 3600


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario

    asyncio.run(bounded())


async def failure_of(settings: LinkSettings) -> str:
    with pytest.raises(LinkError) as caught:
        async with Link(settings):
            pass
    return str(caught.value)


# -- passwords ------------------------------------------------------------------------------------------


def test_a_password_file_is_read_again_for_each_connection(tmp_path: Path) -> None:
    """As after `provision rotate`: the broker ends the connection, and the file gets the new password."""
    passwords, file = tmp_path / "passwords", tmp_path / "device.password"

    def set_password(password: str) -> None:
        passwords.write_text("")
        subprocess.run(
            ["mosquitto_passwd", "-b", str(passwords), "device", password], check=True, capture_output=True
        )
        passwords.chmod(0o644)

    async def scenario(broker: LocalBroker) -> None:
        settings = LinkSettings(broker.url, username="device", password_file=str(file))
        async with Link(settings) as link:
            broker.kill()
            set_password("new")
            file.unlink()  # as while it is being replaced: the link tries again
            broker.start()
            while link.connected:
                await asyncio.sleep(0.01)
            file.write_text("new\n")
            while not link.connected:
                await asyncio.sleep(0.01)
            assert link.statistics.num_connects == 2

    set_password("old")
    file.write_text("old\n")
    lines = ["per_listener_settings false", "allow_anonymous false", f"password_file {passwords}"]
    with LocalBroker(tmp_path, settings=lines) as broker:
        run(scenario(broker))


# -- certificates ---------------------------------------------------------------------------------------


def tls_broker(folder: Path, authority: Authority, port: int, *more: str, days: int = 2) -> LocalBroker:
    certificate, key = authority.issue("server", days=days)
    lines = [f"listener {port} 127.0.0.1", f"cafile {authority.ca_file}", f"certfile {certificate}"]
    return LocalBroker(folder, settings=[*lines, f"keyfile {key}", *more])


def day(days: int) -> str:
    """The date so many days from now, give or take the seconds of a test at midnight."""
    return f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}"


@pytest.mark.parametrize("days", [-1, 0, 29, 2000, 20_000])  # the last two are on both sides of 2050
def test_the_last_day_of_a_certificate_is_read(tmp_path: Path, days: int) -> None:
    certificate, _ = Authority(tmp_path, days=30_000).issue("a", days=days)
    end = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-enddate"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.partition("=")[2]
    der = ssl.PEM_cert_to_DER_cert(Path(certificate).read_text())
    assert expiry(der).timestamp() == ssl.cert_time_to_seconds(end.strip())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_certificate_or_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        expiry(data)


def test_a_certificate_that_is_cut_short_is_a_value_error(tmp_path: Path) -> None:
    certificate, _ = Authority(tmp_path).issue("a")
    der = ssl.PEM_cert_to_DER_cert(Path(certificate).read_text())
    for length in range(len(der)):
        with pytest.raises(ValueError):
            expiry(der[:length])


def test_certificates_that_soon_expire_are_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port, authority = free_port(), Authority(tmp_path, days=400)
    certificate, key = authority.issue("device", days=20)

    async def scenario() -> None:
        settings = LinkSettings(
            f"mqtts://127.0.0.1:{port}", ca_file=authority.ca_file, cert_file=certificate, key_file=key
        )
        async with Link(settings) as link:
            broker.kill()
            broker.start()
            while link.statistics.num_connects < 2 or not link.connected:
                await asyncio.sleep(0.01)
            assert [one.name for one in link.statistics.certificates] == ["broker", "client", "authority"]
            assert days_left(link.statistics.certificates, time.time()) == 9

    with tls_broker(tmp_path, authority, port, days=10) as broker:
        run(scenario())
    warned = [message for message in caplog.messages if message.startswith("TLS:")]
    assert warned == [
        f"TLS: the certificate of 127.0.0.1:{port} expires in 9 days, on {day(10)}: renew it",
        f"TLS: the client certificate {certificate} expires in 19 days, on {day(20)}: renew it",
    ]


def test_an_expired_broker_certificate_is_called_expired(tmp_path: Path) -> None:
    port, authority = free_port(), Authority(tmp_path)

    async def scenario() -> None:
        message = await failure_of(LinkSettings(f"mqtts://127.0.0.1:{port}", ca_file=authority.ca_file))
        assert message.startswith(f"TLS: the certificate of 127.0.0.1:{port} has expired: renew it")
        assert "clock" in message

    with tls_broker(tmp_path, authority, port, days=-1):
        run(scenario())


def test_an_expired_authority_is_called_expired(tmp_path: Path) -> None:
    port, authority = free_port(), Authority(tmp_path)

    async def scenario() -> None:
        message = await failure_of(LinkSettings(f"mqtts://127.0.0.1:{port}", ca_file=authority.ca_file))
        assert message.startswith(f"TLS: the authority {authority.ca_file} has expired on {day(-1)}")

    with tls_broker(tmp_path, authority, port):
        authority.expire()
        run(scenario())


@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
def test_an_expired_client_certificate_is_called_expired(tmp_path: Path, version: str) -> None:
    port, authority = free_port(), Authority(tmp_path)
    certificate, key = authority.issue("device", days=-1)

    async def scenario() -> None:
        settings = LinkSettings(
            f"mqtts://127.0.0.1:{port}", ca_file=authority.ca_file, cert_file=certificate, key_file=key
        )
        message = await failure_of(settings)
        assert message.startswith(f"TLS: the client certificate {certificate} has expired on {day(-1)}")

    with tls_broker(tmp_path, authority, port, "require_certificate true", f"tls_version {version}"):
        run(scenario())


def test_a_bundle_of_authorities_is_not_judged(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    bundle = tmp_path / "bundle.crt"
    bundle.write_text("".join(Path(Authority(tmp_path / name).ca_file).read_text() for name in ("a", "b")))
    settings = LinkSettings("mqtts://broker", ca_file=str(bundle), cert_file=str(tmp_path / "missing.crt"))
    assert certificates_of(settings, b"no certificate") == ()


def test_metrics_have_the_end_of_each_certificate() -> None:
    statistics = LinkStatistics(certificates=(Certificate("broker", 2e9), Certificate("client", 1e9)))
    *_, expiry_family = MetricFamilies("hlm_x").link(statistics, is_connected=True)
    values = {sample.labels["certificate"]: sample.value for sample in expiry_family.samples}
    assert expiry_family.name == "hlm_x_certificate_expiry_timestamp_seconds"
    assert values == {"broker": 2e9, "client": 1e9}


def test_a_status_has_the_days_that_are_left_and_older_ones_do_without() -> None:
    status = Status(State.ONLINE, "demo", "large", "1.0", certificate_days=12)
    assert read_status(status.payload()) == status
    older = re.sub(rb', "certificate_days": 12', b"", status.payload())
    assert read_status(older).certificate_days is None
    for wrong in (b'"soon"', b"[]", b"NaN", b"1e999"):
        with pytest.raises(StatusError):
            read_status(status.payload().replace(b": 12", b": " + wrong))
    lines = as_table({"one": status, "two": Status(State.ONLINE, "demo", "large", "1.0")}).splitlines()
    assert lines[3:] == ["one: a TLS certificate expires in 12 days"]
