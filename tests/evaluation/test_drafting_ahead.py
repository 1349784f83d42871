"""Recorded texts of a real pair, drafted again: what drafting ahead by measurement comes to."""

import pytest

from benchmarks.drafting_ahead.__main__ import RECORDS
from benchmarks.drafting_ahead.records import Record, Recorded, from_json, to_json, without_drafts
from benchmarks.drafting_ahead.replay import replay
from benchmarks.drafting_ahead.worlds import WORLDS
from evaluation.simulate.variants import variant

SETTINGS = {one.name: one for one in WORLDS}
TEXTS = from_json(RECORDS.read_text())


def rate(scheme: str, kind: str, world: str, **settings: object) -> float:
    setting = SETTINGS[world]
    texts = TEXTS["lossless" if scheme == "llm" else scheme][kind]
    if scheme == "llm":
        texts = without_drafts(texts)
    return replay(texts, variant(scheme, **settings), setting.compute, setting.round_trip).rate


@pytest.mark.parametrize(("kind", "window", "block"), [("chat", 4, 8), ("code", 4, 8), ("chat", 1, 4)])
def test_on_a_slow_worker_no_fixed_window_is_much_faster(kind: str, window: int, block: int) -> None:
    ours = rate("lossless", kind, "CPU +10 ms, 20 ms")
    assert ours >= 0.95 * rate("lossless", kind, "CPU +10 ms, 20 ms", window=window, block_length=block)


def test_hard_text_takes_few_messages_and_gains_all_the_same() -> None:
    setting = SETTINGS["CPU +10 ms, 20 ms"]
    found = replay(TEXTS["lossless"]["chat"], variant("lossless"), setting.compute, setting.round_trip)
    assert found.uplink_rate <= 0.5
    assert found.num_resent == 0
    assert found.rate >= 1.5 * rate("llm", "chat", setting.name)


def test_code_is_more_than_three_times_as_fast_as_the_target_alone() -> None:
    assert rate("lossless", "code", "CPU +10 ms, 20 ms") >= 3 * rate("llm", "code", "CPU +10 ms, 20 ms")


def test_records_come_back_from_their_file() -> None:
    texts = {
        "lossless": {"odd": [Record(3, (Recorded(0.25, True), Recorded(0.5, False), Recorded(0.0, False)))]}
    }
    assert from_json(to_json(texts)) == texts
