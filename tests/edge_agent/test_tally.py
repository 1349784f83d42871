"""The counts of a generation, and the rates that follow from them."""

from dataclasses import fields

import numpy as np
import pytest

from common.sampling.distribution import encode_probs
from edge_agent.session.tally import Tally
from edge_agent.session.transcript import Fate


def test_skipped_tokens_that_were_not_measured_count_like_those_that_were() -> None:
    tally = Tally(num_measured=2, measured_risk_sum=0.5)
    assert tally.measured_risk == 0.0  # nothing was skipped
    tally.num_by_fate |= {Fate.LOCAL: 3, Fate.UNVERIFIED: 1, Fate.VERIFIED: 5, Fate.CORRECTED: 1}
    assert (tally.num_skipped, tally.num_tokens) == (4, 10)
    assert tally.measured_risk == pytest.approx(0.25 * 4 / 10)


def test_without_a_measurement_there_is_no_risk_and_without_a_test_no_rate() -> None:
    tally = Tally(num_by_fate=dict.fromkeys(Fate, 2))
    assert tally.measured_risk is None
    tally = Tally(num_by_fate={**dict.fromkeys(Fate, 0), Fate.LOCAL: 2})
    assert tally.acceptance_rate is None
    tally.num_by_fate |= {Fate.VERIFIED: 6, Fate.CORRECTED: 2}
    assert (tally.num_tested, tally.num_accepted, tally.acceptance_rate) == (8, 6, 0.75)


def test_a_measured_token_risks_what_the_draft_model_gave_it_beyond_the_target() -> None:
    tally = Tally()
    codes = encode_probs(np.array([0.25, 0.5, 1.0, 0.0])).tobytes()
    assert tally.measure(np.array([0.5, 0.5, 0.5, 0.5]), codes) == [0.5, 0.0, 0.0, 1.0]
    assert (tally.num_measured, tally.measured_risk_sum) == (4, 1.5)


def test_adding_a_tally_adds_every_count() -> None:
    counts = [field.name for field in fields(Tally) if field.name != "num_by_fate"]
    left, right = (
        Tally(**dict.fromkeys(counts, value), num_by_fate=dict.fromkeys(Fate, value)) for value in (5, 2)
    )
    left.add(right)
    assert {getattr(left, name) for name in counts} | set(left.num_by_fate.values()) == {7}
