"""A full disk under the production broker: no change is lost in silence, and no one is locked out."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from common.link import Link, LinkError, LinkSettings
from mosquitto.provisioning.__main__ import main
from mosquitto.provisioning.accounts_file import AccountsFile
from mosquitto.provisioning.folder import Folder
from tests.support.production_broker import ProductionBroker

MANY_POOLS = [part for number in range(40) for part in ("--pool", f"pool-{number}")]  # a role of 20 KB


@pytest.fixture
def disk(tmp_path: Path) -> Generator[Path]:
    """A file system of 64 KiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def production(tmp_path: Path, disk: Path) -> Generator[ProductionBroker]:
    """A broker with its state on the small disk, and a device `kitchen`."""
    production = ProductionBroker(tmp_path)
    state = production.folder / "state"
    for file in state.iterdir():
        shutil.move(file, disk)
    state.rmdir()
    state.symlink_to(disk)
    with production.broker:
        production.add("device", "kitchen", "--pool", "demo")
        yield production


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """mosquitto 2.0 has written its file before it answers."""
    monkeypatch.setattr("mosquitto.provisioning.accounts_file.WRITE_TIMEOUT", 0.2)


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    path = disk / "filler"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(descriptor, bytes(1024))
    except OSError:
        return path
    finally:
        os.close(descriptor)


def make_read_only(disk: Path) -> None:
    """As the kernel does with a disk that fails."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def make_writable(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def enters(production: ProductionBroker, name: str, password: str | None = None) -> bool:
    """Whether the account gets in."""
    settings = production.settings(name, password=password) if password else production.settings(name)
    return log_in(settings)


def log_in(settings: LinkSettings) -> bool:
    async def run() -> None:
        async with Link(settings):
            pass

    try:
        asyncio.run(run())
    except LinkError:
        return False
    return True


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command wrote to standard error."""
    error = capsys.readouterr().err
    assert error.startswith("provision: ")
    assert error.count("\n") == 1
    return error


def test_an_account_that_the_broker_cannot_write_down_is_refused_and_locks_no_one_out(
    production: ProductionBroker, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filler = fill(disk)
    assert production.provision("add", "device", "attic", *MANY_POOLS) == 1
    error = refused(capsys)
    assert "could not write" in error
    assert "KiB free" in error
    assert "undone" in error
    assert "still has what it had before" in error  # undoing it wrote the file again, which fits
    production.broker.kill()
    production.broker.start()
    assert enters(production, "kitchen")
    assert enters(production, "admin")
    filler.unlink()
    production.add("device", "attic", *MANY_POOLS)
    assert enters(production, "attic")


def test_a_removal_that_cannot_be_written_down_is_no_success(
    production: ProductionBroker, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_read_only(disk)
    assert production.provision("remove", "kitchen") == 1
    error = refused(capsys)
    assert "only until the broker restarts" in error
    assert "still has what it had before" in error
    assert not enters(production, "kitchen")
    production.broker.restart()
    assert enters(production, "kitchen")
    make_writable(disk)
    assert production.provision("remove", "kitchen") == 0
    production.broker.restart()
    assert not enters(production, "kitchen")


def test_a_new_password_that_cannot_be_written_down_is_no_success(
    production: ProductionBroker, disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_read_only(disk)
    assert production.provision("rotate", "kitchen") == 1
    out = capsys.readouterr()
    assert "password   " not in out.out
    assert "could not write" in out.err
    assert production.provision("rotate", "kitchen", "--out", str(tmp_path / "new")) == 1
    assert not (tmp_path / "new").exists()
    production.broker.restart()
    assert enters(production, "kitchen")


def test_the_administrator_keeps_the_old_password_where_the_new_one_cannot_be_written_down(
    production: ProductionBroker, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_read_only(disk)
    assert production.provision("rotate", "admin") == 1
    assert "undone" in refused(capsys)
    assert enters(production, "admin")
    production.broker.restart()
    assert enters(production, "admin")
    make_writable(disk)
    assert production.provision("rotate", "admin") == 0
    production.broker.restart()
    assert enters(production, "admin")


def test_a_file_that_cannot_be_put_back_either_is_restored_when_there_is_space(
    production: ProductionBroker, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = production.folder / "state" / "dynamic-security.json"
    state.write_text("")
    filler = fill(disk)
    assert production.provision("rotate", "kitchen") == 1
    assert "do not restart the broker" in refused(capsys)
    production.broker.stop()
    assert main(["restore", "--folder", str(production.folder)]) == 1
    assert "No space left on device" in refused(capsys)
    filler.unlink()
    assert main(["restore", "--folder", str(production.folder)]) == 0
    production.broker.start()
    assert enters(production, "kitchen")


def test_a_damaged_file_is_replaced_by_the_copy_even_on_a_full_disk(
    production: ProductionBroker, disk: Path
) -> None:
    production.broker.stop()
    state = production.folder / "state" / "dynamic-security.json"
    state.write_text(state.read_text()[:-10])
    fill(disk)
    assert "has the last good accounts again" in AccountsFile(Folder(production.folder)).put_back()
    production.broker.start()
    assert enters(production, "kitchen")


def test_restore_brings_the_accounts_back_after_any_damage(
    production: ProductionBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    state = production.folder / "state" / "dynamic-security.json"
    production.broker.stop()
    state.write_text(state.read_text()[:100])
    production.broker.start()
    assert not enters(production, "kitchen")
    production.broker.stop()
    assert main(["restore", "--folder", str(production.folder)]) == 0
    assert "2 accounts" in capsys.readouterr().out
    production.broker.start()
    assert enters(production, "kitchen")
    assert enters(production, "admin")


def test_a_damaged_file_never_replaces_the_copy_and_the_next_change_heals_it(
    production: ProductionBroker,
) -> None:
    state = production.folder / "state" / "dynamic-security.json"
    copy = production.folder / "admin" / "accounts.json"
    good = copy.read_text()
    for damaged in ("", "{", "[]", '{"clients": [], "roles": []}', '{"clients": 3, "roles": {}}'):
        state.write_text(damaged)
        assert production.provision("remove", "nobody") == 1
        assert copy.read_text() == good
    assert production.provision("rotate", "kitchen", "--out", str(production.folder / "new")) == 0
    production.broker.restart()
    assert enters(production, "kitchen", (production.folder / "new").read_text().strip())


def test_restore_without_a_copy_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    production = ProductionBroker(tmp_path)
    assert main(["restore", "--folder", str(production.folder)]) == 1
    assert "there is no good copy" in refused(capsys)


def test_nothing_is_changed_where_the_copy_cannot_be_kept(
    production: ProductionBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    (production.folder / "admin" / "accounts.json").unlink()
    (production.folder / "admin" / "accounts.json.new").mkdir()
    assert production.provision("add", "device", "attic", "--pool", "demo") == 1
    assert "accounts.json" in refused(capsys)
    assert production.provision("list") == 0
    assert "attic" not in capsys.readouterr().out


def test_init_on_a_full_disk_leaves_nothing_half_done(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filler = fill(disk)
    assert main(["init", "--folder", str(disk / "broker")]) == 1
    assert "No space left on device" in refused(capsys)
    filler.unlink()
    assert main(["init", "--folder", str(disk / "broker")]) == 0


def test_a_renewed_certificate_on_a_full_disk_leaves_the_old_pair_whole(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = disk / "broker"
    assert main(["certificates", "--host", "a.example", "--folder", str(folder)]) == 0
    before = {path: path.read_text() for path in (folder / "server.crt", folder / "server.key")}
    fill(disk)
    capsys.readouterr()
    assert main(["certificates", "--host", "a.example", "--folder", str(folder)]) == 1
    assert {path: path.read_text() for path in before} == before
    assert not [name for name in os.listdir(folder) if name.endswith(".new")]
