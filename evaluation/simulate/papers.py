"""The papers' table for this pair, the audit of the 206x, and slow links; a row is one operating point.

Law: all figures of a row come from the same run. Published figures have rows of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.policy.schemes import RISK_AVERSE_CU_HLM, RISK_AVERSE_U_HLM
from edge_agent.tuning.calibration import Calibration
from evaluation.simulate.measures import Speed, Worth, speed
from evaluation.simulate.study import Study
from evaluation.simulate.sweeps import fixed, progress
from evaluation.simulate.variants import Case, Variant

U_HLM_SKIPS, CU_HLM_SKIPS = 0.4593, 0.748  # shares of the transmissions, as published
PAPERS_K = 30  # k* of CU-HLM offline, as published
RISK_PRONE_U_HLM, RISK_PRONE_CU_HLM = 0.43, 0.81  # (D - b) / a, as published
SLOW_KBPS = (1.0, 3.0, 10.0, 30.0)
LONG_BLOCK = 32
VOTES = {"estimator": "perturbation-vote"}  # as in the papers: 20 redraws


AS_PUBLISHED = tuple(
    Case(f"{scheme}, u > {threshold:g}{ids} as published", scheme, {"threshold": threshold, **more, **VOTES})
    for scheme, threshold, ids, more in (
        ("u-hlm", RISK_AVERSE_U_HLM, "", {}),
        ("u-hlm", RISK_PRONE_U_HLM, "", {}),
        ("cu-hlm-offline", RISK_AVERSE_CU_HLM, f" and k = {PAPERS_K}", {"max_ids": PAPERS_K}),
        ("cu-hlm-offline", RISK_PRONE_CU_HLM, f" and k = {PAPERS_K}", {"max_ids": PAPERS_K}),
        ("cu-hlm-online", RISK_AVERSE_CU_HLM, "", {}),
        ("cu-hlm-online", RISK_PRONE_CU_HLM, "", {}),
    )
)
SHORTER = tuple(Case(f"opportunistic, k = {k}", "opportunistic", {"max_ids": k}) for k in (2, 1))


@dataclass(frozen=True, slots=True)
class PapersRow:
    """One case at one operating point; ratios are over HLM in the same world, accuracy over the target's."""

    label: str
    speed: Speed
    worth: Worth
    bound: float | None  # the papers' R(u_th), where a threshold decides
    throughput: float  # tokens over total time, over HLM's
    papers_throughput: float  # mean of per-token rates, over HLM's
    compression: float | None  # 1 - payload per sent token over HLM's
    accuracy: float  # exact match over that of the target model alone


@dataclass(frozen=True, slots=True)
class AuditRow:
    """CU-HLM over HLM on both clocks; `bound` is what a time average cannot exceed."""

    snr_db: float
    hlm: float
    cu_hlm: float
    by_time: float
    by_mean_of_rates: float
    bound: float


@dataclass(frozen=True, slots=True)
class SlowRow:
    """Speeds and uplink bytes on a slow link, everything counted."""

    kbps: float
    block_length: int | None
    opportunistic: Speed
    lossless: Speed
    coupled: Speed


def risk_prone(calibration: Calibration, sent: Sequence[int]) -> list[Case]:
    """Return the papers' schemes at this pair's risk-prone threshold; `sent` are k* of what is sent."""
    threshold = min(1.0, max(0.0, calibration.risk_prone))
    settings: dict[str, object] = {"threshold": threshold}
    return [
        Case(f"u-hlm, risk-prone, u > {threshold:.3g}", "u-hlm", settings),
        *(
            Case(
                f"cu-hlm-offline, risk-prone, u > {threshold:.3g}, k = {k}",
                "cu-hlm-offline",
                {**settings, "max_ids": k},
            )
            for k in sorted({calibration.offline_k, *sent})
        ),
        Case(f"cu-hlm-online, risk-prone, u > {threshold:.3g}", "cu-hlm-online", settings),
    ]


def at_rate_of(study: Study, case: Case, label: str) -> Case:
    """Return rand-hlm sending the share of tokens that `case` sends, as measured."""
    share = 1.0 - study.worth(case.name, **case.settings).skipped
    return Case(label, "rand-hlm", {"uplink_probability": share})


def ks_of_what_is_sent(calibration: Calibration) -> list[int]:
    """Return k* from the tokens that CU-HLM sends at the pair's thresholds: risk-averse, and risk-prone."""
    return [calibration.sent_k(each) for each in (calibration.fit.risk_averse, calibration.risk_prone)]


def skipping(study: Study, name: str, share: float, **settings: object) -> Case:
    """Return a scheme with the threshold at which it skips about `share`: a quantile of its uncertainties."""
    threshold = float(f"{_uncertainty_quantile(study, name, share):.3g}")
    return Case(f"{name}, u > {threshold:g}", name, {"threshold": threshold, **settings})


def _uncertainty_quantile(study: Study, name: str, share: float) -> float:
    simulation = study.simulation(name)
    uncertainties: list[float] = []
    for outcome in study.run(simulation, study.free()):
        tokens = [*outcome.prompt, *outcome.tokens]
        proposals = simulation.proposals(outcome.seed)
        places = range(len(outcome.prompt), len(tokens))
        uncertainties += [proposals.propose(tokens[:place]).uncertainty for place in places]
    return float(np.quantile(uncertainties, share))


def papers_table(
    study: Study, cases: Sequence[Case], *, bandwidth_mhz: float, snr_db: float, vocab_size: int
) -> list[PapersRow]:
    """Return one row per case, in the same world as HLM."""
    world = study.papers(1e6 * bandwidth_mhz, snr_db, vocab_size)
    hlm = study.speed(study.simulation("hlm"), world)
    target = study.worth("llm")
    rows: list[PapersRow] = []
    for case in progress(cases, f"|V| = {vocab_size}"):
        simulation = study.simulation_in(case.name, world, **case.settings)
        outcomes = study.run(simulation, world)
        found, worth = speed(outcomes), study.worth_of(simulation, outcomes)
        sent = found.bytes_per_sent
        rows.append(
            PapersRow(
                label=_label(case, simulation.variant),
                speed=found,
                worth=worth,
                bound=worth.bound if simulation.variant.scheme.skips_certain else None,
                throughput=found.tokens_per_second / hlm.tokens_per_second,
                papers_throughput=found.papers_rate / hlm.papers_rate,
                compression=1 - sent / hlm.bytes_per_sent if sent and hlm.bytes_per_sent else None,
                accuracy=worth.right / target.right,
            )
        )
    return rows


def _label(case: Case, variant: Variant) -> str:
    """Return the label, with the block length of a peer."""
    return f"{case.label}, block of {variant.gamma}" if variant.gamma else case.label


def audit(
    study: Study,
    case: Case,
    *,
    bandwidth_mhz: float,
    snrs_db: Sequence[float],
    vocab_size: int,
    count: int,
) -> list[AuditRow]:
    """Show where 206x can come from: the same runs on both clocks, for the first `count` prompts."""
    rows: list[AuditRow] = []
    for snr in progress(snrs_db, "audit"):
        world = study.papers(1e6 * bandwidth_mhz, snr, vocab_size)
        hlm = study.speed(study.simulation("hlm"), world, count)
        other = study.speed(study.simulation(case.name, **case.settings), world, count)
        rows.append(
            AuditRow(
                snr_db=snr,
                hlm=hlm.tokens_per_second,
                cu_hlm=other.tokens_per_second,
                by_time=other.tokens_per_second / hlm.tokens_per_second,
                by_mean_of_rates=other.papers_rate / hlm.papers_rate,
                bound=hlm.bytes_up / other.bytes_up,
            )
        )
    return rows


def slow_links(study: Study, *, round_trip_ms: float, count: int) -> list[SlowRow]:
    """Compare the lossless schemes' bytes per token with opportunistic's, on links where bytes are slow."""
    rows: list[SlowRow] = []
    for kbps in progress(SLOW_KBPS, "slow links"):
        world = fixed(study, 1000 * kbps, round_trip_ms)
        opportunistic = study.speed(study.simulation("opportunistic"), world, count)
        for block_length in (None, LONG_BLOCK):
            settings: dict[str, object] = {}
            if block_length is not None:
                settings = {"block_length": block_length, "threshold": 1.0, "window": 1}
            lossless, coupled = (
                study.speed(study.simulation(name, **settings), world, count)
                for name in ("lossless", "coupled")
            )
            rows.append(SlowRow(kbps, block_length, opportunistic, lossless, coupled))
    return rows
