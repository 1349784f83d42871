"""Compare automatic drafting ahead with every fixed window and block length, in virtual time.

    python -m benchmarks.drafting_ahead
    python -m benchmarks.drafting_ahead --collect --draft FOLDER --target FOLDER

Texts of a real pair were recorded once (records.json): each token's uncertainty, and whether the target
accepted it. They are drafted again with the real session and scheduler in worlds with other costs: a worker
on a CPU, whose passes grow with their positions, one on a GPU, and the demo's models. All texts of a kind
follow each other on one device. The worker is alone with it, so its seconds are what the device costs it.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.drafting_ahead.records import Record, Records, from_json, to_json, without_drafts
from benchmarks.drafting_ahead.replay import Replayed, replay
from benchmarks.drafting_ahead.worlds import WORLDS, Setting
from common.process.paths import path_flag
from evaluation.help_format import command_parser
from evaluation.simulate.variants import variant

RECORDS = Path(__file__).parent / "records.json"
WINDOWS, BLOCKS = (1, 2, 4), (1, 2, 4, 8)


def compare(records: Records, settings: Sequence[Setting], schemes: Sequence[str]) -> Iterator[str]:
    """Yield a line per world, scheme and kind of text."""
    for setting in settings:
        for scheme in schemes:
            for kind, texts in records[scheme].items():
                yield f"{setting.name:22} {scheme:13} {kind:10} {_line(texts, scheme, setting)}"


def fixed(texts: Sequence[Record], scheme: str, setting: Setting) -> dict[str, Replayed]:
    """Return what every fixed window and block length comes to."""
    return {
        f"window {window}, block {block}": replay(
            texts, variant(scheme, window=window, block_length=block), setting.compute, setting.round_trip
        )
        for window in WINDOWS
        for block in (BLOCKS if scheme != "opportunistic" else BLOCKS[:1])
    }


def _line(texts: Sequence[Record], scheme: str, setting: Setting) -> str:
    ours = replay(texts, variant(scheme), setting.compute, setting.round_trip)
    alone = replay(without_drafts(texts), variant("llm"), setting.compute, setting.round_trip)
    others = fixed(texts, scheme, setting)
    name = max(others, key=lambda name: others[name].rate)
    best = others[name]
    return (
        f"{ours.rate:7.2f} tokens/s, {ours.rate / best.rate:.2f} of {name}, "
        f"{ours.rate / alone.rate:.2f} of llm; "
        f"uplinks/token {ours.uplink_rate:.2f} ({best.uplink_rate:.2f}); worker ms/token "
        f"{ours.worker_ms:.1f} ({best.worker_ms:.1f}, llm {alone.worker_ms:.1f})"
    )


def main() -> None:
    """Measure and print, or record."""
    parser = command_parser("benchmarks.drafting_ahead", __doc__)
    parser.add_argument("--worlds", nargs="*", default=[], help="only worlds whose names hold one of these")
    parser.add_argument("--schemes", nargs="*", default=["lossless", "opportunistic"], help="what to compare")
    parser.add_argument("--records", type=path_flag, default=RECORDS, help="the recorded texts")
    parser.add_argument("--collect", action="store_true", help="record the texts of a pair, and end")
    parser.add_argument("--draft", default="demo", help="with --collect: the draft model")
    parser.add_argument("--target", default="demo", help="with --collect: the target model")
    parser.add_argument("--max-tokens", type=int, default=80, help="with --collect: of each text")
    flags = parser.parse_args()
    if flags.collect:
        _collect(flags)
        return
    settings = [one for one in WORLDS if not flags.worlds or any(word in one.name for word in flags.worlds)]
    for line in compare(from_json(flags.records.read_text()), settings, flags.schemes):
        print(line, flush=True)


def _collect(flags: argparse.Namespace) -> None:
    from benchmarks.drafting_ahead.collect import collect  # loads torch
    from evaluation.value.prompts import PROMPTS

    records = collect(flags.draft, flags.target, PROMPTS, max_tokens=flags.max_tokens, num_threads=1)
    flags.records.write_text(to_json(records))


if __name__ == "__main__":
    main()
