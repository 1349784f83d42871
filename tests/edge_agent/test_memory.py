"""Memory that is given back to the kernel changes no byte that anyone reads."""

# what is mapped and clean is found inside
# pyright: reportPrivateUsage=false

import mmap
import sys
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from edge_agent.device import memory
from edge_agent.device.memory import release_free_memory, release_read_pages
from edge_agent.draft_model.onnx_session import OnnxSession
from edge_agent.errors import ModelError

SMAPS = """\
7f00-7f10 rw-p 00000000 fe:00 12                         /models/a graph/model.onnx.data
Rss:                  64 kB
Anonymous:             0 kB
AnonHugePages:         0 kB
Swap:                  0 kB
SwapPss:               0 kB
7f10-7f20 rw-p 00010000 fe:00 12                         /models/a graph/model.onnx.data
Anonymous:             4 kB
Swap:                  0 kB
7f20-7f30 rw-p 00000000 fe:00 13                         /models/a graph/model.onnx
Anonymous:             0 kB
Swap:                  0 kB
7f30-7f40 rw-p 00000000 00:00 0
Anonymous:             0 kB
Swap:                  0 kB
7f40-7f50 r--p 00020000 fe:00 12                         /models/a graph/model.onnx.data
Anonymous:             0 kB
Swap:                  0 kB
7f50-7f60 rw-p 00030000 fe:00 12                         /models/a graph/model.onnx.data
Anonymous:             0 kB
Swap:                  8 kB
7f60-7f70 rw-p 00040000 fe:00 12                         /models/a graph/model.onnx.data
Anonymous:             4 kB
Swap:                  0 kB
7f70-7f80 rw-p 00000000 00:00 0
Anonymous:             0 kB
Swap:                  0 kB
"""
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def test_only_mappings_of_the_file_without_a_page_of_their_own_are_found() -> None:
    found = list(memory._clean_mappings(SMAPS, "/models/a graph/model.onnx.data"))
    assert found == [(0x7F00, 0x7F10), (0x7F40, 0x7F50)]


@on_linux
def test_released_pages_of_a_file_read_the_same_and_written_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(range(256)) * 1024)
    with path.open("rb") as stream:
        clean = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        written = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    with clean, written:
        written[5000] = 7
        before = bytes(clean), bytes(written)
        release_read_pages(path)
        release_free_memory()
        assert (bytes(clean), bytes(written)) == before


@on_linux
def test_released_pages_are_no_longer_resident(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * (1 << 20))
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        assert bytes(mapped) == path.read_bytes()
        assert _resident(path) > 0
        release_read_pages(path)
        assert _resident(path) == 0


def test_where_the_system_offers_nothing_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    release_free_memory()
    release_read_pages(tmp_path / "weights")


@pytest.mark.parametrize(
    ("content", "left_out"), [(b"..GatherBlockQuantized..", ["ConstantFolding"]), (b"..Gather..", [])]
)
def test_an_embedding_that_the_head_shares_is_not_copied(
    content: bytes, left_out: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def session(*_: object, **options: object) -> None:
        given.update(options)
        raise RuntimeError("not a graph")

    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    monkeypatch.setattr(ort, "InferenceSession", session)
    with pytest.raises(ModelError):
        OnnxSession.open(path, num_threads=1, providers=())
    assert given["disabled_optimizers"] == left_out


def _resident(path: Path) -> int:
    """KiB of the file that are mapped and resident."""
    sections = Path("/proc/self/smaps").read_text().split(str(path))[1:]
    return sum(int(section.partition("Rss:")[2].split()[0]) for section in sections)
