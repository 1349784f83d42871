"""Which curves there are, and how they are run: schemes, their knobs, and the worlds that time them.

Law: a threshold's texts are written once and timed in every world, as with a fixed threshold the text does
not depend on the channel, nor on the window: schemes that differ in their window alone share their texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from common.sampling.randomness import FloatArray
from evaluation.simulate.curves import PAYLOAD, WORTHS, Curve, bytes_in, seconds_in
from evaluation.simulate.measures import Worth
from evaluation.simulate.running import Simulation, World
from evaluation.simulate.study import Study
from evaluation.simulate.sweeps import progress
from evaluation.simulate.variants import PEERS
from evaluation.simulate.world.device import Outcome

ALL_SENT = -1.0  # no uncertainty is below it, so every token is verified
THRESHOLDS = (ALL_SENT, 0.01, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.5, 1.0)
VOTES = (ALL_SENT, 0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)  # of 20, as shares
SHARES = (1.0, 0.99, 0.97, 0.94, 0.9, 0.8, 0.6, 0.3, 0.0)  # that rand-hlm sends
WINDOW = 4  # that of our schemes
NARROW, WIDE = "everything counted, 0.1 MHz", "everything counted, 1 MHz"
SNR_DB = 5.0


@dataclass(frozen=True, slots=True)
class Family:
    """Curves that share their texts: `windows` by label. `knob` is the setting that `knobs` are values of."""

    scheme: str
    windows: Mapping[str, int | None]
    settings: Mapping[str, object] = field(default_factory=dict)
    knob: str = "threshold"
    knobs: Sequence[float] = THRESHOLDS

    def settings_at(self, knob: float | None, window: int | None) -> dict[str, object]:
        """Return the settings of one point."""
        found = dict(self.settings)
        if knob is not None:
            found[self.knob] = knob
        if window is not None:
            found["window"] = window
        return found


def families(offline_ks: Sequence[int]) -> list[Family]:
    """Return all families; `offline_ks` are those of CU-HLM offline."""
    votes = {"estimator": "perturbation-vote"}
    cu_hlm = [
        _both(f"cu-hlm-offline, k = {k}", "cu-hlm-offline", {"max_ids": k}) for k in sorted(set(offline_ks))
    ]
    return [
        _single("slm"),
        _single("llm"),
        _single("hlm"),
        Family("rand-hlm", {"rand-hlm": None}, knob="uplink_probability", knobs=SHARES),
        Family("u-hlm", {"u-hlm": None}),
        *cu_hlm,
        _both("cu-hlm-online", "cu-hlm-online", {}),
        Family(
            "cu-hlm-offline",
            {f"cu-hlm-offline, k = {max(offline_ks)}, 20 votes": None},
            {"max_ids": max(offline_ks), **votes},
            knobs=VOTES,
        ),
        Family("opportunistic", {"opportunistic": None, "opportunistic, window 1": 1}),
        *(Family("opportunistic", {f"opportunistic, k = {k}": None}, {"max_ids": k}) for k in (2, 1)),
        *(_single(name) for name in ("lossless", "coupled", *PEERS)),
    ]


def _single(name: str) -> Family:
    return Family(name, {name: None}, knobs=())


def _both(label: str, scheme: str, settings: Mapping[str, object]) -> Family:
    return Family(scheme, {label: None, f"{label}, window {WINDOW}": WINDOW}, settings)


def worlds(study: Study, delay: float) -> dict[str, World]:
    """Return the worlds in which the replies are timed."""
    return {
        NARROW: study.wire(1e5, SNR_DB, delay),
        WIDE: study.wire(1e6, SNR_DB, delay),
    }


def run_family(study: Study, family: Family, where: Mapping[str, World]) -> list[Curve]:
    """Write and time the texts of a family."""
    knobs: Sequence[float | None] = family.knobs or (None,)
    points = [
        {label: _point(study, family, knob, window, where) for label, window in family.windows.items()}
        for knob in knobs
    ]
    return [
        Curve(
            label=label,
            knobs=tuple(knobs),
            commands=np.arange(len(study.prompts)) % study.num_commands,
            seeds=np.array([prompt.seed for prompt in study.prompts]),
            columns={name: np.stack([point[label][name] for point in points]) for name in points[0][label]},
        )
        for label in family.windows
    ]


def run_all(study: Study, delay: float, offline_ks: Sequence[int]) -> list[Curve]:
    """Run every family; what one leaves in memory is freed before the next."""
    where = worlds(study, delay)
    found: list[Curve] = []
    for family in progress(families(offline_ks), "curves"):
        found += run_family(study, family, where)
        study.forget()
    return found


def _point(
    study: Study, family: Family, knob: float | None, window: int | None, where: Mapping[str, World]
) -> dict[str, FloatArray]:
    settings = family.settings_at(knob, window)
    timed: dict[str, FloatArray] = {}
    outcomes: Sequence[Outcome] = ()
    simulation: Simulation | None = None
    for name, world in where.items():
        simulation = study.simulation_in(family.scheme, world, **settings)
        outcomes = study.run(simulation, world)
        timed[seconds_in(name)] = np.array([one.seconds for one in outcomes])
        timed[bytes_in(name)] = np.array([one.traffic.bytes_up for one in outcomes])
    assert simulation is not None
    timed[PAYLOAD] = np.array([one.traffic.papers_bytes for one in outcomes])
    return {**_worths(study.worth_of(simulation, outcomes)), **timed}


def _worths(worth: Worth) -> dict[str, FloatArray]:
    rows = [
        (one.num_tokens, one.is_right, one.num_skipped, one.drift, one.bound, one.truncation)
        for one in worth.replies
    ]
    return dict(zip(WORTHS, np.array(rows, dtype=np.float64).T, strict=True))
