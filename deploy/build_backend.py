"""The build backend: setuptools, with archives that depend on nothing but the sources.

Law: with SOURCE_DATE_EPOCH set, equal files make equal wheels and sdists, byte for byte. Only names, contents
and the executable bit count; the builder's clock, umask and user do not.

setuptools dates the files of a wheel by SOURCE_DATE_EPOCH, but it keeps their permissions. Its sdist keeps
permissions, dates and owner as well, and the gzip header holds the time of the build.
"""

import gzip
import os
import shutil
import stat
import tarfile
import time
import zipfile
from io import BytesIO
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]


def build_sdist(sdist_directory: str, config_settings: dict[str, str] | None = None) -> str:
    """Make the sdist; returns its file name."""
    name = build_meta.build_sdist(sdist_directory, config_settings)
    path = Path(sdist_directory, name)
    path.write_bytes(_normal_sdist(path, int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
    return name


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, str] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Make the wheel; returns its file name."""
    shutil.rmtree("build/lib", ignore_errors=True)  # setuptools packs what an earlier build left there
    name = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    path = Path(wheel_directory, name)
    path.write_bytes(_normal_wheel(path))
    return name


def _normal_sdist(path: Path, date: int) -> bytes:
    archive = BytesIO()
    with (
        tarfile.open(path) as old,
        gzip.GzipFile(filename="", mode="wb", fileobj=archive, mtime=date) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            kept = tarfile.TarInfo(member.name)
            kept.type, kept.size, kept.mtime = member.type, member.size, date
            kept.mode = 0o755 if member.isdir() else _permissions(member.mode)
            new.addfile(kept, old.extractfile(member))
    return archive.getvalue()


def _normal_wheel(path: Path) -> bytes:
    archive = BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(archive, "w") as new:
        for info in old.infolist():
            kept = zipfile.ZipInfo(info.filename, info.date_time)
            kept.compress_type = info.compress_type
            kept.external_attr = (stat.S_IFREG | _permissions(info.external_attr >> 16)) << 16
            new.writestr(kept, old.read(info))
    return archive.getvalue()


def _permissions(mode: int) -> int:
    return 0o755 if mode & stat.S_IXUSR else 0o644
