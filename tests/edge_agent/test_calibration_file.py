"""The calibration that an agent finds: what it decides, and what is said about one that does not fit."""

import asyncio
import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import TypedDict

import pytest

from common.sampling.distribution import Sampling
from edge_agent.assembly import build_policy, build_tuner
from edge_agent.config import AgentConfig
from edge_agent.draft_model.files import DEMO_FOLDER
from edge_agent.errors import CalibrationError
from edge_agent.policy.rejection_fit import Fit
from edge_agent.policy.schemes import SCHEMES
from edge_agent.policy.uncertainty import ESTIMATORS
from edge_agent.session.pacing import Experience
from edge_agent.session.tally import Tally
from edge_agent.session.transcript import Fate
from edge_agent.tuning.calibration import FILE_NAME, Calibration, OperatingPoint
from edge_agent.tuning.calibration_file import find_calibration
from evaluation.local.broker import LocalBroker
from tests.support.narrowing import present
from tests.support.processes import generate

TOKENIZER = b"tokeniz8"
PLAIN = Sampling(1.0)
CALIBRATION = Calibration(
    tokenizer=TOKENIZER.hex(),
    draft_model="small",
    target_model="large",
    sampling=PLAIN,
    estimator="perturbation-mean",
    num_tokens=1000,
    date="2026-01-01",
    fit=Fit(0.5, -0.1),
    risk_prone=0.4,
    offline_k=7,
    operating_points=(OperatingPoint(0.0, 0.0, 1.0), OperatingPoint(0.3, 0.02, 0.2)),
    sent_ks=((0.01, 8), (0.2, 12)),
)


class Different(TypedDict, total=False):
    """What an agent samples or measures in another way."""

    sampling: Sampling
    estimator: str


def find(
    folder: Path,
    named: Path | None = None,
    *,
    tokenizer: bytes = TOKENIZER,
    sampling: Sampling = PLAIN,
    estimator: str | None = "perturbation-mean",
) -> Calibration | None:
    return find_calibration(
        folder, str(named) if named else None, tokenizer=tokenizer, sampling=sampling, estimator=estimator
    )


def write(path: Path, **changes: object) -> Path:
    fields = json.loads(CALIBRATION.to_json()) | changes
    path.write_text(json.dumps(fields))
    return path


def test_k_from_the_sent_tokens_is_that_of_the_next_lower_threshold_measured() -> None:
    assert [CALIBRATION.sent_k(threshold) for threshold in (0.005, 0.01, 0.1, 0.9)] == [7, 8, 8, 12]


def test_a_file_without_k_from_the_sent_tokens_is_read() -> None:
    fields = json.loads(CALIBRATION.to_json())
    del fields["sent_ks"]
    assert Calibration.from_json(json.dumps(fields)).sent_k(0.5) == CALIBRATION.offline_k


# -- finding it ------------------------------------------------------------------------------------------


def test_it_is_found_beside_the_model_and_by_name(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    assert find(tmp_path, write(tmp_path / "mine.json")) == CALIBRATION
    write(tmp_path / FILE_NAME)
    assert find(tmp_path) == CALIBRATION


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"cannot read the calibration .*none\.json: No such file"):
        find(tmp_path, tmp_path / "none.json")


@pytest.mark.parametrize(
    ("different", "what"),
    [
        (
            {"sampling": Sampling(0.0)},
            "was made for temperature 1, top-k 0, top-p 1, and this is temperature 0",
        ),
        ({"estimator": "entropy"}, "was made for the estimator perturbation-mean, and this is entropy"),
    ],
)
def test_one_for_something_else_is_left_out_with_a_word_or_refused_when_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, different: Different, what: str
) -> None:
    path = write(tmp_path / FILE_NAME)
    with caplog.at_level(logging.WARNING):
        assert find(tmp_path, **different) is None
    assert what in caplog.text
    with pytest.raises(CalibrationError, match=what):
        find(tmp_path, path, **different)


def test_one_of_another_tokenizer_is_refused_wherever_it_lies(tmp_path: Path) -> None:
    path = write(tmp_path / FILE_NAME)
    for named in (None, path):
        with pytest.raises(CalibrationError, match="the calibration of a model with another tokenizer"):
            find(tmp_path, named, tokenizer=b"another8")


BROKEN = {
    "no JSON": "{",
    "a list": "[]",
    "bytes": "\ud800",
    "another version": json.dumps({"version": 99}),
    "a field too few": json.dumps({"version": 1, "operating_points": [], "sampling": {}, "fit": {}}),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_with_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CalibrationError, match="cannot use the calibration") as error:
        find(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"fit": {"slope": "steep", "intercept": 0}}, "slope is not a number"),
        ({"fit": {"slope": 1, "intercept": float("nan")}}, "intercept is not a number"),
        ({"risk_prone": True}, "risk_prone is not a number"),
        ({"offline_k": 0}, "offline_k is not a whole number above 0"),
        ({"sent_ks": [[0.1, 0]]}, "one of its sent_ks is not a whole number above 0"),
        ({"sent_ks": [[0.1, 2.5]]}, "one of its sent_ks is not a whole number above 0"),
        ({"sent_ks": [3]}, "it is not a calibration"),
        ({"operating_points": [{"threshold": 2, "risk": 0, "uplink_rate": 0}]}, "threshold outside 0 to 1"),
        (
            {"operating_points": [{"threshold": 0.1, "risk": None, "uplink_rate": 0}]},
            "risk of operating point 0",
        ),
    ],
)
def test_numbers_that_are_none_are_named(tmp_path: Path, changes: dict[str, object], what: str) -> None:
    with pytest.raises(CalibrationError, match=what):
        Calibration.from_json(write(tmp_path / FILE_NAME, **changes).read_text())


# -- what it decides -------------------------------------------------------------------------------------


def config(scheme: str, **settings: float) -> AgentConfig:
    return dataclasses.replace(AgentConfig(scheme=scheme), **settings)


@pytest.mark.parametrize("scheme", ["u-hlm", "cu-hlm-offline", "cu-hlm-online"])
def test_it_replaces_the_published_risk_averse_thresholds(scheme: str) -> None:
    assert build_policy(config(scheme), Sampling(), 1).threshold == SCHEMES[scheme].threshold
    assert build_policy(config(scheme), Sampling(), 1, CALIBRATION).threshold == pytest.approx(0.2)
    assert build_policy(config(scheme, threshold=0.3), Sampling(), 1, CALIBRATION).threshold == 0.3


@pytest.mark.parametrize("scheme", ["opportunistic", "lossless", "coupled"])
def test_thresholds_that_were_neither_published_nor_measured_stay(scheme: str) -> None:
    assert build_policy(config(scheme), Sampling(), 1, CALIBRATION).threshold == SCHEMES[scheme].threshold


def test_it_gives_offline_k_and_the_line_of_the_online_rule() -> None:
    assert build_policy(config("cu-hlm-offline"), Sampling(), 1, CALIBRATION).max_ids == 7
    assert build_policy(config("cu-hlm-offline", max_ids=5), Sampling(), 1, CALIBRATION).max_ids == 5
    assert build_policy(config("lossless"), Sampling(), 1, CALIBRATION).max_ids == 32
    assert build_policy(config("cu-hlm-online"), Sampling(), 1, CALIBRATION).fit == CALIBRATION.fit


def test_a_risk_begins_at_the_threshold_that_the_table_gives() -> None:
    tuner = build_tuner(config("opportunistic", risk=0.02), CALIBRATION)
    assert tuner.numbers().threshold == pytest.approx(0.3)
    tuner = build_tuner(config("opportunistic", risk=0.01), CALIBRATION)
    assert tuner.numbers().threshold == pytest.approx(0.15)
    assert build_tuner(config("opportunistic", risk=0.01)).numbers().threshold == pytest.approx(0.08)


def test_a_measured_threshold_is_taken_by_the_scheme_that_skips_and_measures() -> None:
    measured = dataclasses.replace(CALIBRATION, threshold=0.3)
    assert build_policy(config("opportunistic"), Sampling(), 1, measured).threshold == 0.3
    assert build_policy(config("opportunistic", threshold=0.1), Sampling(), 1, measured).threshold == 0.1
    assert build_policy(config("lossless"), Sampling(), 1, measured).threshold == 0.5
    assert build_policy(config("u-hlm"), Sampling(), 1, measured).threshold == pytest.approx(0.2)


def test_its_estimator_is_taken_where_the_user_names_none() -> None:
    measured = dataclasses.replace(CALIBRATION, estimator="entropy")
    for chosen, expected in ((None, "entropy"), ("margin", "margin")):
        policy = build_policy(
            dataclasses.replace(config("opportunistic"), estimator=chosen), Sampling(), 1, measured
        )
        assert policy.estimator is ESTIMATORS[expected]
    assert build_policy(config("opportunistic"), Sampling(), 1).estimator is ESTIMATORS["perturbation-mean"]


def test_a_calibration_for_any_estimator_is_found_where_the_user_names_none(tmp_path: Path) -> None:
    write(tmp_path / FILE_NAME, estimator="entropy")
    assert present(find(tmp_path, estimator=None)).estimator == "entropy"
    assert find(tmp_path, estimator="margin") is None


@pytest.mark.parametrize("name", ["threshold", "acceptance", "draft_seconds", "pass_seconds", "row_seconds"])
def test_measured_numbers_survive_and_are_checked(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / FILE_NAME, **{name: 0.25})
    assert getattr(Calibration.from_json(path.read_text()), name) == 0.25
    for wrong in (-1.0, "much", True, float("nan")):
        path = write(tmp_path / FILE_NAME, **{name: wrong})
        with pytest.raises(CalibrationError, match=name):
            Calibration.from_json(path.read_text())


def test_a_file_of_the_first_version_is_still_read(tmp_path: Path) -> None:
    path = write(tmp_path / FILE_NAME, version=1)
    fields = json.loads(path.read_text())
    for name in ("threshold", "acceptance", "draft_seconds", "pass_seconds", "row_seconds"):
        del fields[name]
    assert Calibration.from_json(json.dumps(fields)) == CALIBRATION


def tally(num_skipped: int, risk: float) -> Tally:
    """An answer of 100 tokens, of which every skipped one was measured."""
    found = Tally(num_measured=num_skipped, measured_risk_sum=risk * num_skipped)
    found.num_by_fate[Fate.LOCAL] += num_skipped
    found.num_by_fate[Fate.VERIFIED] += 100 - num_skipped
    return found


@pytest.mark.parametrize(("risk", "rises"), [(0.0, True), (0.2, False)])
def test_without_a_calibration_the_threshold_follows_what_is_measured(risk: float, rises: bool) -> None:
    tuner = build_tuner(config("opportunistic"), learns=True)
    assert tuner.numbers().threshold == pytest.approx(0.08)  # of other models
    tuner.ended(tally(50, risk), Experience())
    assert (tuner.numbers().threshold > 0.08) == rises
    assert sum(tuner.wants_audit() for _ in range(16)) == 2


@pytest.mark.parametrize(
    ("settings", "calibration"),
    [({"threshold": 0.08}, None), ({"rejection_cost": 1.0}, None), ({}, CALIBRATION)],
)
def test_a_threshold_that_was_set_or_measured_stays(
    settings: dict[str, float], calibration: Calibration | None
) -> None:
    tuner = build_tuner(config("opportunistic", **settings), calibration, learns=True)
    tuner.ended(tally(50, 0.0), Experience())
    assert tuner.numbers().threshold == pytest.approx(0.08)
    assert not any(tuner.wants_audit() for _ in range(16))


def test_only_the_scheme_that_measures_its_risk_learns() -> None:
    for scheme in SCHEMES.values():
        tuner = build_tuner(config(scheme.name), learns=True)
        assert (tuner.control is not None) == scheme.measures_risk


def test_a_line_that_falls_skips_all_or_nothing() -> None:
    assert Fit(-0.5, 0.1).risk_averse == 0.0
    assert Fit(-0.5, -0.1).risk_averse == 1.0
    assert Fit(0.5, 0.1).risk_averse == 0.0


def test_an_agent_reads_the_file_beside_its_model(tmp_path: Path, broker: LocalBroker) -> None:
    folder = tmp_path / "model"
    shutil.copytree(DEMO_FOLDER, folder)
    (folder / FILE_NAME).write_text("{")
    with pytest.raises(CalibrationError, match="cannot use the calibration"):
        asyncio.run(generate(AgentConfig(broker=broker.url, scheme="u-hlm", model=str(folder)), "hello"))


def test_a_calibration_is_read_where_it_is_named_or_of_use() -> None:
    assert dataclasses.replace(AgentConfig(), calibration="x.json").uses_calibration
    assert AgentConfig(scheme="u-hlm").uses_calibration
    assert not AgentConfig().uses_calibration  # lossless
