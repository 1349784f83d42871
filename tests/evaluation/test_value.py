"""`evaluation value` on the demo pair: what it counts, what it refuses, and that it resumes."""

from pathlib import Path

import pytest

from evaluation.__main__ import main
from evaluation.fleet.inputs import INPUTS, PassTime, load_inputs
from evaluation.reporting.finished import Finished
from evaluation.value import stages
from evaluation.value.capacity import devices_per_worker
from evaluation.value.stages import Asked, Asking, measured

INPUTS_READ = load_inputs(INPUTS)


@pytest.mark.slow
def test_the_page_has_all_ways_and_is_made_from_finished_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [
        "value", "--draft", "demo", "--target", "demo", "--dtype", "float32", "--prompts", "1",
        "--max-tokens", "12", "--work", str(tmp_path / "work"), "--out", str(tmp_path),
    ]  # fmt: skip
    assert main(arguments) == 0
    text = (tmp_path / "value.md").read_text()
    for way in ("llm", "lossless", "coupled", "auto", "opportunistic", "hlm", "u-hlm"):
        assert f"| {way} |" in text
    assert (tmp_path / "value-demo_model.svg").exists()

    def unwanted(*_: object, **__: object) -> None:
        raise AssertionError("a finished part was measured again")

    for name in ("measure", "load_pair", "devices_per_worker"):
        monkeypatch.setattr(stages, name, unwanted)
    assert main(arguments) == 0


def test_streaming_and_coupled_drafting_cost_what_their_texts_have_in_common(tmp_path: Path) -> None:
    asked = Asked("demo", "demo", "float32", 1, {"home": ["turn on the lamp"]}, 12, None, 20.0, 20.0, 60.0)
    found = measured(asked, Asking((50,), 0.25, 0.0, INPUTS_READ, devices=False), Finished(tmp_path, "test"))
    costs = found.costs[50]
    assert costs["llm"].num_tokens == costs["coupled"].num_tokens == costs["auto"].num_tokens
    assert costs["llm"].draft_seconds == 0.0
    assert costs["lossless"].pass_seconds < costs["llm"].pass_seconds
    assert costs["hlm"].bytes_up > 10 * costs["lossless"].bytes_up
    assert all(one.drift == 0.0 for name, one in costs.items() if name not in ("opportunistic", "u-hlm"))


@pytest.mark.slow
def test_a_slower_pass_carries_fewer_devices_and_one_beyond_the_target_none() -> None:
    scheme = INPUTS_READ.schemes["llm"]

    def devices(seconds: float) -> int | None:
        passes = PassTime(seconds, 0.0005, 0.0, "given")
        return devices_per_worker(scheme, passes, INPUTS_READ, draft=0.02, rate=0.05, target=0.25)

    quick, slow = devices(0.01), devices(0.05)
    assert quick is not None
    assert slow is not None
    assert quick > slow
    assert devices(0.3) is None


@pytest.mark.parametrize("flags", [["--prompts", "4"], ["--max-tokens", "0"], ["--pass-ms", "-1"]])
def test_a_flag_out_of_range_is_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["value", "--draft", "demo", "--target", "demo", *flags]) == 2
    assert flags[0] in capsys.readouterr().err
