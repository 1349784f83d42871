"""The papers' table for this pair, the audit of the 206x, and the claims; a row is one operating point.

Law: all figures of a row come from the same run. Published figures have rows of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.policy.schemes import RISK_AVERSE_CU_HLM, RISK_AVERSE_U_HLM
from evaluation.reporting.resampling import Estimate, mean_of
from evaluation.simulate.measures import Speed, Worth
from evaluation.simulate.running import World
from evaluation.simulate.study import Study
from evaluation.simulate.sweeps import PAPERS, WIRE, fixed, progress
from evaluation.simulate.variants import Case

U_HLM_SKIPS, CU_HLM_SKIPS = 0.4593, 0.748  # shares of the transmissions, as published
PAPERS_K = 30  # k* of CU-HLM offline, as published
CLAIM_MHZ, CLAIM_SNRS_DB = (0.1, 1.0), (-5.0, 0.0, 5.0, 10.0)
SLOW_KBPS = (1.0, 3.0, 10.0, 30.0)
LONG_BLOCK = 32


AS_PUBLISHED = (
    Case("u-hlm, u > 0.073 as published", "u-hlm", {"threshold": RISK_AVERSE_U_HLM}),
    Case(
        "cu-hlm-offline, u > 0.081 and k = 30 as published",
        "cu-hlm-offline",
        {"threshold": RISK_AVERSE_CU_HLM, "max_ids": PAPERS_K},
    ),
    Case("cu-hlm-online, u > 0.081 as published", "cu-hlm-online", {"threshold": RISK_AVERSE_CU_HLM}),
)
BASELINES = (
    Case("cu-hlm-offline", "cu-hlm-offline", {}),
    Case("cu-hlm-online", "cu-hlm-online", {}),
    *AS_PUBLISHED[1:],
)
OURS = (
    Case("opportunistic", "opportunistic", {}),
    Case("opportunistic, k = 2", "opportunistic", {"max_ids": 2}),
    Case("opportunistic, k = 1", "opportunistic", {"max_ids": 1}),
    Case("lossless", "lossless", {}),
    Case("coupled", "coupled", {}),
)


@dataclass(frozen=True, slots=True)
class PapersRow:
    """One case at one operating point; ratios are over HLM in the same world, accuracy over the target's."""

    label: str
    speed: Speed
    worth: Worth
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
class Claim:
    """Ours against a baseline: the largest ratio of uplink bytes, and the least of speed, by bandwidth (MHz).

    `accuracy_gain` is the difference of the shares that are exactly right, paired, with its interval over
    prompts.
    """

    counting: str
    baseline: str
    ours: str
    accuracy_gain: Estimate
    bytes_ratio: float
    throughput_ratios: Mapping[float, float]

    @property
    def reached(self) -> str:
        """Whether half the bytes or 1.5 times the speed is reached, and where, and how accurate ours is."""
        fast = [mhz for mhz, ratio in self.throughput_ratios.items() if ratio >= 1.5]
        if self.bytes_ratio > 0.5 and not fast:
            return "no"
        everywhere = self.bytes_ratio <= 0.5 or len(fast) == len(self.throughput_ratios)
        where = "yes" if everywhere else f"at {fast[0]:g} MHz"
        gain = self.accuracy_gain
        if gain.high < 0:
            return "no: less accurate"
        if gain.value < 0:
            return f"undecided: {where}, if as accurate"
        return f"{where}, more accurate" if gain.low > 0 else f"{where}, as accurate"


@dataclass(frozen=True, slots=True)
class SlowRow:
    """Speeds and uplink bytes on a slow link, everything counted."""

    kbps: float
    block_length: int | None
    opportunistic: Speed
    lossless: Speed
    coupled: Speed


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
        speed = study.speed(study.simulation(case.name, **case.settings), world)
        worth = study.worth(case.name, **case.settings)
        sent = speed.bytes_per_sent
        rows.append(
            PapersRow(
                label=case.label,
                speed=speed,
                worth=worth,
                throughput=speed.tokens_per_second / hlm.tokens_per_second,
                papers_throughput=speed.papers_rate / hlm.papers_rate,
                compression=1 - sent / hlm.bytes_per_sent if sent and hlm.bytes_per_sent else None,
                accuracy=worth.right / target.right,
            )
        )
    return rows


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


def claims(study: Study, *, delay: float, vocab_size: int, count: int) -> list[Claim]:
    """Compare ours with CU-HLM over the SNRs of the claim, counted as in the papers and in full.

    Texts are scored on all prompts, speeds on the first `count`.
    """
    found: list[Claim] = []
    for counting in progress((PAPERS, WIRE), "claims"):
        speeds: dict[str, list[tuple[float, Speed]]] = {}
        for case in (*BASELINES, *OURS):
            simulation = study.simulation(case.name, **case.settings)
            speeds[case.label] = [
                (mhz, study.speed(simulation, world, count))
                for mhz in CLAIM_MHZ
                for world in _claim_worlds(study, counting, mhz, delay, vocab_size)
            ]
        for baseline in BASELINES:
            found += [_claim(study, counting, baseline, ours, speeds) for ours in OURS]
    return found


def _claim_worlds(study: Study, counting: str, mhz: float, delay: float, vocab_size: int) -> list[World]:
    hertz = 1e6 * mhz
    if counting == PAPERS:
        return [study.papers(hertz, snr, vocab_size) for snr in CLAIM_SNRS_DB]
    return [study.wire(hertz, snr, delay) for snr in CLAIM_SNRS_DB]


def _claim(
    study: Study,
    counting: str,
    baseline: Case,
    ours: Case,
    speeds: Mapping[str, Sequence[tuple[float, Speed]]],
) -> Claim:
    pairs = list(zip(speeds[ours.label], speeds[baseline.label], strict=True))
    rights = [study.worth(case.name, **case.settings).rights for case in (ours, baseline)]
    shares = mean_of([np.array(each, float) for each in rights], np.arange(len(rights[0])))
    return Claim(
        counting=counting,
        baseline=baseline.label,
        ours=ours.label,
        accuracy_gain=shares.difference(0, 1),
        bytes_ratio=max(one.bytes_up / other.bytes_up for (_, one), (_, other) in pairs),
        throughput_ratios={
            mhz: min(
                one.tokens_per_second / other.tokens_per_second
                for (at, one), (_, other) in pairs
                if at == mhz
            )
            for mhz in CLAIM_MHZ
        },
    )


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
