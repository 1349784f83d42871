"""`edge-agent bundle`: wheels, model and settings in one tar file, for a device without a network.

`deploy/install-agent --from BUNDLE` installs it, and so does the copy of that script inside:

    install-agent, machine, SHA256SUMS, wheels/*.whl, models/NAME/..., agent.toml

Law: the device needs nothing else than Python. The checksums cover every other file.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from common.process.settings import CommandLine, SettingsError, add_flags, load
from edge_agent.config import ENV_PREFIX, AgentConfig
from edge_agent.draft_model.files import DEMO, read_info
from edge_agent.draft_model.source import resolve
from edge_agent.errors import AgentError, ConfigError

SUMS = "SHA256SUMS"
MODELS = "/var/lib/hybrid-lm/models"  # on the device, as in deploy/install-agent
_SCRIPT = "share/hybrid-lm/install-agent"  # in the wheel's data
_CHECKOUT = Path(__file__).parents[1]
_GLIBC = ("2_28", "2_27", "2_17")  # of Debian 10 and later
_MODEL_FILES = ("*.json", "*.jinja")
_MODEL_KEY = re.compile(r"^\s*(model|model_file)\s*=.*\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parts:
    """What goes into a bundle: our wheel (None: of this checkout), a model and settings (None: none)."""

    wheel: Path | None = None
    model: str | None = None
    model_file: str | None = None
    config: Path | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """What the bundle is for: the processor as `uname -m` prints it, and Python's version."""

    machine: str
    python: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"3\.\d+", self.python):
            raise ConfigError(f"--python-version {self.python!r} is not of the form 3.11")


def write_bundle(out: Path, parts: Parts, device: Device) -> Path:
    """Write the tar file `out`; AgentError when a part cannot be had."""
    model = None if parts.model is None else resolve(parts.model, model_file=parts.model_file)
    settings = None if parts.config is None else _settings(parts.config)
    with tempfile.TemporaryDirectory(prefix="bundle-") as temporary:
        folder = Path(temporary)
        wheel = _add_wheels(folder / "wheels", parts.wheel, device)
        _add_script(folder / "install-agent", wheel)
        if model is not None and parts.model != DEMO:
            name = (parts.model or "").rstrip("/").rpartition("/")[2]
            _add_model(folder / "models" / name, model, parts.model_file)
            settings = None if settings is None else _with_model(settings, f"{MODELS}/{name}")
        if settings is not None:
            (folder / "agent.toml").write_text(settings, encoding="utf-8")
        (folder / "machine").write_text(f"{device.machine} {device.python}\n")
        _add_sums(folder)
        partial = out.with_name(f"{out.name}.part")
        try:
            with tarfile.open(partial, "w") as archive:  # weights do not get smaller
                for path in sorted(folder.iterdir()):
                    archive.add(path, path.name, filter=_owned_by_root)
            partial.replace(out)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise AgentError(f"cannot write {out} ({error.strerror})") from error
    return out


def _settings(path: Path) -> str:
    """The text of a config file that an agent would accept."""
    parser = CommandLine(prog="edge-agent")
    add_flags(parser, AgentConfig, ENV_PREFIX)
    try:
        load(AgentConfig, parser.parse_args(["--config", str(path)]), "NO_VARIABLES_")
    except SettingsError as error:
        raise ConfigError(str(error)) from error
    return path.read_text(encoding="utf-8")


def _with_model(settings: str, folder: str) -> str:
    """`settings` with the model of the bundle; one that names another graph would not find it."""
    changed = f'model = "{folder}"\n' + _MODEL_KEY.sub("", settings)
    if tomllib.loads(changed).get("model") != folder:
        raise ConfigError(
            'the config sets `model` in an unusual way: write model = "..." on a line of its own'
        )
    return changed


def _add_wheels(folder: Path, wheel: Path | None, device: Device) -> Path:
    """Our wheel and all that it needs on the device; returns ours."""
    folder.mkdir()
    if wheel is None:
        if not (_CHECKOUT / "pyproject.toml").is_file():
            raise ConfigError("give --wheel, a wheel of hybrid-lm (make dist)")
        _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(_CHECKOUT))
        wheel = next(folder.glob("hybrid_lm-*.whl"))
    elif not wheel.is_file():
        raise ConfigError(f"there is no wheel {wheel}")
    else:
        shutil.copyfile(wheel, folder / wheel.name)
    platforms = [f"--platform=manylinux_{one}_{device.machine}" for one in _GLIBC]
    abi = f"cp{device.python.replace('.', '')}"
    abis = [f"--abi={one}" for one in (abi, "abi3", "none")]
    only = [
        "--only-binary=:all:",
        f"--python-version={device.python}",
        "--implementation=cp",
        *platforms,
        *abis,
    ]
    _pip("download", "--dest", str(folder), *only, f"{folder / wheel.name}[edge]")
    return folder / wheel.name


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or [
            "no reason given"
        ]
        raise AgentError(f"pip {arguments[0]} failed: {lines[-1].removeprefix('ERROR: ')}")


def _add_script(path: Path, wheel: Path) -> None:
    """The installer, from the wheel, so that both are of one release."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(one for one in archive.namelist() if one.endswith(_SCRIPT))
            path.write_bytes(archive.read(name))
    except (zipfile.BadZipFile, StopIteration) as error:
        raise ConfigError(f"{wheel.name} is not a wheel of this release of hybrid-lm: make dist") from error
    path.chmod(0o755)


def _add_model(folder: Path, model: Path, model_file: str | None) -> None:
    """The one graph that the agent chooses, with its weights and settings."""
    info = read_info(model, model_file)
    texts = [path for pattern in _MODEL_FILES for path in model.glob(pattern)]
    for path in [*texts, *info.graph_files]:
        target = folder / path.relative_to(model)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _add_sums(folder: Path) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{_sha256(path)}  {path.relative_to(folder)}\n" for path in paths]
    (folder / SUMS).write_text("".join(lines))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member
