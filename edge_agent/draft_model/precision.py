"""How a graph stores its weights, found in the bytes of its file: a device has no package that parses ONNX.

Law: this is for people to read. Nothing is decided by it.
"""

import mmap
from pathlib import Path

_BITS = b"\x0a\x04bits\x18"  # the attribute `bits` of MatMulNBits, before its value
_DYNAMIC_INT8 = (b"MatMulInteger", b"DynamicQuantizeMatMul")


def precision_of(path: Path) -> str:
    """`int4`, `int8`, `int4 + int8`, `fp16` or `fp32`, as far as the names of operators show it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as graph:
        found = {f"int{bits}" for bits in _values(graph, _BITS)}
        if any(graph.find(name) >= 0 for name in _DYNAMIC_INT8):
            found.add("int8")
        if not found:
            found.add("fp16" if b"fp16" in path.name.encode() or b"f16" in path.name.encode() else "fp32")
    return " + ".join(sorted(found))


def _values(graph: mmap.mmap, name: bytes) -> set[int]:
    values: set[int] = set()
    at = graph.find(name)
    while at >= 0 and at + len(name) < len(graph):
        values.add(graph[at + len(name)])
        at = graph.find(name, at + len(name))
    return values
