"""The settings to score: every scheme as published, at its default and at the pair's calibrated thresholds.

The papers' schemes come twice: *as published*, with the 20 votes, thresholds and k* of the papers; and
*calibrated*, with the noise-free uncertainty and the pair's own numbers. CURVE adds thresholds, so that
schemes can be compared where their drift is equal.
"""

from collections.abc import Iterable, Sequence

from edge_agent.config import AgentConfig
from edge_agent.policy.rejection_fit import PUBLISHED_FIT, Fit
from edge_agent.policy.schemes import SCHEMES
from edge_agent.tuning.calibration import Calibration
from evaluation.quality.setting import CURVE, GREEDY, MEAN, NUM_IDS, SAMPLED, Setting

PAPERS = ("u-hlm", "cu-hlm-offline", "cu-hlm-online")

RISK_PRONE = {"u-hlm": 0.43, "cu-hlm-offline": 0.81, "cu-hlm-online": 0.81}  # as published
CURVE_THRESHOLDS = (0.03, 0.2, 0.6)
CURVE_VOTES = (0.2, 0.65)  # between votes, which are multiples of 0.05
CURVE_RATES = (0.2, 0.03)


def agent_config(setting: Setting, max_tokens: int) -> AgentConfig:
    """Return the agent's config; it sets the threshold, so the model's calibration file is not used."""
    return AgentConfig(
        scheme=setting.scheme,
        threshold=setting.threshold,
        temperature=0.0 if setting.sampling == GREEDY else None,
        max_tokens=max_tokens,
        max_ids=setting.max_ids,
        estimator=setting.estimator,
        uplink_probability=setting.uplink_probability,
    )


def settings(calibration: Calibration | None, budgets: Sequence[float], sampling: str) -> list[Setting]:
    """Return all settings except those of rand-hlm, which follow from uplink rates (`matched`)."""
    found: list[Setting] = []
    for name, scheme in SCHEMES.items():
        if name in PAPERS:
            found.append(Setting.papers(sampling, name, "risk-averse, published", scheme.threshold))
            found.append(Setting.papers(sampling, name, "risk-prone, published", RISK_PRONE[name]))
            found += _calibrated(name, calibration, sampling)
        elif name == "opportunistic":
            found += _opportunistic(calibration, budgets, sampling)
        elif name != "rand-hlm":
            found.append(Setting(sampling, name, "default", scheme.threshold))
    return found


def matched(rates: Iterable[tuple[str, float]], sampling: str) -> list[Setting]:
    """Return rand-hlm at the uplink rates of other settings, each with what it matches."""
    found = [(f"uplink rate of u-hlm, {choice}", rate) for choice, rate in rates]
    if sampling == SAMPLED:
        found += [(CURVE, rate) for rate in CURVE_RATES]
    return [
        Setting(sampling, "rand-hlm", choice, 1.0, uplink_probability=round(rate, 4))
        for choice, rate in found
    ]


def _calibrated(name: str, calibration: Calibration | None, sampling: str) -> list[Setting]:
    if calibration is None:
        return []
    fit = _rounded(calibration.fit)
    averse = float(f"{fit.risk_averse:.4g}")
    prone = min(1.0, max(0.0, float(f"{calibration.risk_prone:.4g}")))
    chosen = [("risk-averse, calibrated", averse), ("risk-prone, calibrated", prone)]
    if sampling == SAMPLED:
        chosen += [(CURVE, threshold) for threshold in CURVE_THRESHOLDS]
    found: dict[Setting, None] = {}
    for choice, threshold in chosen:
        ks = [NUM_IDS]
        if name == "cu-hlm-offline":
            ks = [calibration.offline_k, calibration.sent_k(prone if choice == CURVE else threshold)]
        for k in ks:
            found[Setting(sampling, name, choice, threshold, k, MEAN, 0.5, fit.slope, fit.intercept)] = None
    extra = CURVE_VOTES if sampling == SAMPLED and name == "u-hlm" else ()
    return [*found, *(Setting.papers(sampling, name, CURVE, threshold) for threshold in extra)]


def _rounded(fit: Fit) -> Fit:
    """The line with four digits, so that the last bits of a calibration do not make other settings."""
    return Fit(float(f"{fit.slope:.4g}"), float(f"{fit.intercept:.4g}"))


def _opportunistic(calibration: Calibration | None, budgets: Sequence[float], sampling: str) -> list[Setting]:
    name, fit = "opportunistic", _rounded(calibration.fit) if calibration else PUBLISHED_FIT
    chosen = [("default", SCHEMES[name].threshold)]
    if calibration is not None:
        chosen += [(f"risk budget {budget:g}", calibration.threshold_for(budget)) for budget in budgets]
        if sampling == SAMPLED:
            chosen += [
                (CURVE, threshold) for threshold in (float(f"{fit.risk_averse:.4g}"), *CURVE_THRESHOLDS)
            ]
    return [
        Setting(sampling, name, choice, threshold, slope=fit.slope, intercept=fit.intercept)
        for choice, threshold in chosen
    ]
