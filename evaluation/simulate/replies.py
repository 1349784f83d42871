"""Curves as a file: one line per reply, compressed, so that every interval can be derived again.

Law: what is read is what was written, except for the last digits; equal curves give equal files.
"""

import csv
import gzip
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.simulate.curves import Curve

FILE_NAME = "simulation-replies.csv.gz"
KEYS = ("curve", "knob", "command", "seed")
DIGITS = 6  # significant; a reply has fewer than 1e6 tokens


def write_replies(path: Path, curves: Sequence[Curve]) -> Path:
    """Write all curves, which have the same columns; return `path`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(curves[0].columns)
    writer.writerow([*KEYS, *names])
    for curve in curves:
        for row, knob in enumerate(curve.knobs):
            for reply, (command, seed) in enumerate(zip(curve.commands, curve.seeds, strict=True)):
                figures = [f"{curve.columns[name][row, reply]:.{DIGITS}g}" for name in names]
                writer.writerow([curve.label, "" if knob is None else f"{knob:g}", command, seed, *figures])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    return path


def read_replies(path: Path) -> list[Curve]:
    """Read what `write_replies` wrote."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        names = next(reader)[len(KEYS) :]
        found: dict[str, dict[str, list[list[str]]]] = defaultdict(lambda: defaultdict(list))
        for label, knob, *row in reader:
            found[label][knob].append(row)
    return [_curve(label, by_knob, names) for label, by_knob in found.items()]


def _curve(label: str, by_knob: dict[str, list[list[str]]], names: Sequence[str]) -> Curve:
    table = np.array(list(by_knob.values()), dtype=np.float64)  # [knobs, replies, columns]
    return Curve(
        label=label,
        knobs=tuple(float(knob) if knob else None for knob in by_knob),
        commands=table[0, :, 0].astype(np.int64),
        seeds=table[0, :, 1].astype(np.int64),
        columns={name: table[:, :, 2 + i] for i, name in enumerate(names)},
    )
