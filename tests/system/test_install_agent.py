"""deploy/install-agent into an empty folder: checks first, twice the same, uninstalled without a trace.

What a whole system would add is not run here: systemctl, and pip's downloads. By hand it was run in a clean
Debian 12 (docs/operating.md).
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.distribution import ROOT, build, copy_repository

SCRIPT = ROOT / "deploy" / "install-agent"
MAKE_DEB = ROOT / "deploy" / "make-deb"
PACKAGES = os.pathsep.join(one for one in sys.path if Path(one).name in ("site-packages", "dist-packages"))
# what it depends on is found in this environment; "0" turns the isolation of builds off (pip's reading)
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PYTHONPATH": PACKAGES}
NEEDS_SHELLCHECK = pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="shellcheck is not installed"
)


def run(*flags: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The script with sh, which is dash on Debian."""
    variables = os.environ | OFFLINE | dict(environment or {})
    return subprocess.run(
        ["sh", str(SCRIPT), *flags], capture_output=True, text=True, env=variables, check=False
    )


def files(root: Path) -> list[str]:
    """Everything below `root` but the programs."""
    every = (str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())
    return sorted(name for name in every if not name.startswith("opt/"))


def stand_in(folder: Path, name: str, lines: str) -> Mapping[str, str]:
    """A program that takes the place of `name`, as a PATH."""
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{lines}\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(name="root")
def empty_root(tmp_path: Path) -> Path:
    """A system with nothing in it."""
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture(name="wheel")
def any_wheel(tmp_path: Path) -> Path:
    """A file that has the name of our wheel, for what happens before it is read."""
    path = tmp_path / "hybrid_lm-0.1.0-py3-none-any.whl"
    path.write_bytes(b"")
    return path


@NEEDS_SHELLCHECK
@pytest.mark.parametrize("script", [SCRIPT, MAKE_DEB], ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_help_names_every_flag() -> None:
    done = run("--help")
    assert done.returncode == 0
    flags = {
        flag
        for line in re.findall(r"^    (--.*)\)", SCRIPT.read_text(), re.MULTILINE)
        for flag in line.split(" | ")
    }
    assert {"--from", "--uninstall", "--dry-run"} <= flags
    assert [flag for flag in sorted(flags) if flag not in done.stdout] == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--frm", "x"], "unknown argument --frm"),
        (["--from"], "--from needs a value"),
        (["--from", "/nowhere.whl"], "there is no /nowhere.whl"),
        (["--purge"], "--purge goes with --uninstall"),
        (["--python", "python9"], "there is no python9"),
        (["--broker", 'mqtt://"'], "quotes, backslashes"),
        (["--password-file", "/nowhere"], "cannot read the password file /nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(flags: list[str], message: str, root: Path) -> None:
    done = run("--root", str(root), *flags)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (1, 1, "")
    assert message in done.stderr
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("uname", "echo armv7l", "armv7l is not supported"),
        ("getconf", "echo 32", "32-bit system"),
        ("df", "echo head; echo x 9 9 9000 9 /", "8 MB free, but 450 MB are needed"),
        ("python3", 'test "$1" = --version && echo Python 3.9.2; exit 1', "Python 3.9.2 is too old"),
        ("python3", 'case "$2" in *ensurepip*) exit 1 ;; esac', "apt-get install python3-venv"),
    ],
)
def test_an_unfit_machine_is_refused(
    name: str, lines: str, message: str, root: Path, wheel: Path, tmp_path: Path
) -> None:
    done = run("--root", str(root), "--from", str(wheel), environment=stand_in(tmp_path, name, lines))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert message in done.stderr
    assert list(root.iterdir()) == []


def test_a_folder_that_is_not_ours_is_left_alone(root: Path, wheel: Path) -> None:
    (root / "opt" / "hybrid-lm").mkdir(parents=True)
    done = run("--root", str(root), "--from", str(wheel))
    assert "is not a virtual environment: move it away" in done.stderr


def test_a_damaged_bundle_is_refused(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    (folder / "wheels").mkdir(parents=True)
    (folder / "wheels" / "hybrid_lm-0.1.0-py3-none-any.whl").write_bytes(b"cut short")
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  wheels/hybrid_lm-0.1.0-py3-none-any.whl\n")
    done = run("--root", str(root), "--from", str(folder))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the bundle is damaged" in done.stderr
    assert list(root.iterdir()) == []


def test_a_dry_run_prints_and_changes_nothing(root: Path, wheel: Path) -> None:
    done = run("--root", str(root), "--from", str(wheel), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"-m venv --clear {root}/opt/hybrid-lm" in done.stdout
    assert f"would write: {root}/etc/hybrid-lm/agent.toml" in done.stdout
    assert list(root.iterdir()) == []


def test_without_systemd_it_refuses(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "dirname", "id", "uname", "getconf"):
        (programs / name).symlink_to(str(shutil.which(name)))
    done = run("--dry-run", environment={"PATH": str(programs)})
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no systemd here: install with pip" in done.stderr


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd runs here")
def test_in_an_image_the_socket_is_enabled_but_not_started(wheel: Path, tmp_path: Path) -> None:
    done = run("--from", str(wheel), "--dry-run", environment=stand_in(tmp_path, "systemctl", "exit 1"))
    assert done.returncode == 0, done.stderr
    assert "would run: systemctl enable hlm-agent.socket\n" in done.stdout
    assert "starts at the next boot" in done.stdout


@pytest.mark.slow
def test_a_checkout_is_left_as_it_was(root: Path, tmp_path: Path) -> None:
    checkout = copy_repository(tmp_path / "checkout")
    before = files(checkout)
    done = run("--root", str(root), "--from", str(checkout), "--python", sys.executable)
    assert done.returncode == 0, done.stderr
    assert files(checkout) == before


@pytest.mark.slow
def test_installed_twice_configured_and_uninstalled(root: Path, tmp_path: Path) -> None:
    wheel = build(copy_repository(tmp_path / "source"), tmp_path / "dist").wheel
    flags = ("--root", str(root), "--from", str(wheel), "--python", sys.executable)

    done = run(*flags, "--broker", "mqtt://first", "--device", "pi")
    assert done.returncode == 0, done.stderr
    settings, units = root / "etc/hybrid-lm/agent.toml", root / "etc/systemd/system"
    assert 'broker = "mqtt://first"' in settings.read_text()
    drop_in = units / "hlm-agent@.service.d" / "no-password.conf"
    assert "--password-file" not in drop_in.read_text()
    assert "generate - --lines" in drop_in.read_text()
    program = root / "opt/hybrid-lm/bin/edge-agent"
    answer = [str(program), "generate", "hello", "--scheme", "slm", "--max-tokens", "2", "--quiet"]
    assert subprocess.run(answer, env=os.environ | OFFLINE, check=False).returncode == 0
    first = files(root)

    (tmp_path / "password").write_text("secret\n")
    done = run(*flags, "--broker", "mqtt://second", "--password-file", str(tmp_path / "password"))
    assert done.returncode == 0, done.stderr
    assert "kept" in done.stdout
    assert 'broker = "mqtt://first"' in settings.read_text()
    password = root / "etc/hybrid-lm/agent.password"
    assert password.stat().st_mode & 0o777 == 0o600
    serve_drop_in = units / "hlm-agent-serve.service.d" / "no-password.conf"
    gone = {str(one.relative_to(root)) for one in (drop_in, serve_drop_in)}
    assert set(files(root)) == {*first, "etc/hybrid-lm/agent.password"} - gone

    assert run("--root", str(root), "--uninstall").returncode == 0
    assert files(root) == ["etc/hybrid-lm/agent.password", "etc/hybrid-lm/agent.toml"]
    assert not program.parents[1].exists()
    assert run("--root", str(root), "--uninstall", "--purge").returncode == 0
    assert files(root) == []


@pytest.mark.slow
def test_a_failed_installation_leaves_nothing_behind(root: Path, wheel: Path) -> None:
    done = run("--root", str(root), "--from", str(wheel), "--python", sys.executable)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert files(root) == []
    assert not (root / "opt" / "hybrid-lm").exists()


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
def test_a_debian_package_carries_a_bundle_and_its_installer(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    (bundle / "wheels").mkdir(parents=True)
    (bundle / "wheels" / "hybrid_lm-0.1.0-py3-none-any.whl").touch()
    (bundle / "machine").write_text("aarch64 3.11\n")
    shutil.copy(SCRIPT, bundle)
    subprocess.run(["tar", "-cf", "../agent.tar", *os.listdir(bundle)], cwd=bundle, check=True)
    subprocess.run([str(MAKE_DEB), "agent.tar"], cwd=tmp_path, check=True, capture_output=True)

    package = str(tmp_path / "hybrid-lm-agent_0.1.0_arm64.deb")
    field = subprocess.check_output(["dpkg-deb", "--field", package, "Depends"], text=True)
    assert field == "python3 (>= 3.11), python3 (<< 3.12), python3-venv, systemd\n"
    subprocess.run(["dpkg-deb", "--raw-extract", package, str(tmp_path / "out")], check=True)
    out = tmp_path / "out"
    installer = "usr/share/hybrid-lm-agent/install-agent"
    assert (out / installer).read_bytes() == SCRIPT.read_bytes()
    for name in ("postinst", "prerm"):
        assert f"/{installer}" in (out / "DEBIAN" / name).read_text()
    for name in ("postinst", "prerm", "postrm"):  # another step of dpkg than its own: nothing happens
        subprocess.run([str(out / "DEBIAN" / name), "upgrade"], check=True)


@pytest.mark.parametrize("given", [[], ["nowhere.tar"], [str(SCRIPT)]])
def test_no_bundle_no_debian_package(given: list[str], tmp_path: Path) -> None:
    done = subprocess.run([str(MAKE_DEB), *given], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "bundle" in done.stderr
    assert list(tmp_path.iterdir()) == []
