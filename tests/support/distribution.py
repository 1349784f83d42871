"""The wheel and the sdist as `make dist` builds them, and an environment with nothing but the wheel.

Law: the checkout is not visible where the wheel is installed. What it depends on is, from this environment.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE_DATE = 1_700_000_000
CALM = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """The two archives of one build."""

    wheel: Path
    sdist: Path


@dataclass(frozen=True, slots=True)
class Installed:
    """A virtual environment in `folder` that holds the wheel."""

    folder: Path

    @property
    def site_packages(self) -> Path:
        """Where the wheel was unpacked."""
        (path,) = self.folder.glob("lib/python*/site-packages")
        return path

    def run(self, *command: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A command of the environment, in the folder `cwd`, as a user with no settings and no caches."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        path = os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", os.defpath)])
        environment = CALM | {"PATH": path, "HOME": str(home)}
        return subprocess.run(
            command, cwd=cwd, env=environment, input=stdin, capture_output=True, text=True, check=False
        )


def repository_files() -> list[str]:
    """What git would commit here; in an unpacked sdist, what it was made of."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-co", "--exclude-standard"]
    if (ROOT / ".git").exists():
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
            "\0"
        )
    else:
        found = (ROOT / "hybrid_lm.egg-info" / "SOURCES.txt").read_text().splitlines()
    made = ("hybrid_lm.egg-info/", "PKG-INFO", "setup.cfg")
    return sorted(name for name in found if (ROOT / name).is_file() and not name.startswith(made))


def copy_repository(target: Path, *, age: int = 0, mask: int = 0o022) -> Path:
    """A copy of those files, last changed `age` seconds ago, with the permissions of a umask."""
    for name in repository_files():
        source, copy = ROOT / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
        copy.chmod((0o777 if os.access(source, os.X_OK) else 0o666) & ~mask)
        changed = copy.stat().st_mtime - age
        os.utime(copy, (changed, changed))
    return target


def build(source: Path, output: Path, *, mask: int = 0o022) -> Distribution:
    """Build both archives from `source` into the folder `output`, without a network."""
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(SOURCE_DATE)}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), str(source)]
    run_or_fail(command, cwd=source, environment=environment, mask=mask)
    (wheel,), (sdist,) = output.glob("*.whl"), output.glob("*.tar.gz")
    return Distribution(wheel, sdist)


def install(wheel: Path, folder: Path) -> Installed:
    """Install the wheel alone; then let the environment see the packages that this one has."""
    run_or_fail([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--quiet"]
    # without PYTHONPATH, where pip may find the checkout's metadata and take the wheel for installed
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run_or_fail([*pip, "install", "--no-index", "--no-deps", str(wheel)], environment=outside)
    installed = Installed(folder)
    # a plain line: .pth files in those folders, such as that of an editable install, have no effect
    dependencies = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (installed.site_packages / "dependencies.pth").write_text("\n".join(dependencies))
    return installed


def run_or_fail(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
    mask: int = -1,
) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        command, cwd=cwd, env=environment, umask=mask, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
