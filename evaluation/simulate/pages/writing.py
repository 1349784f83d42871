"""Makes the two pages, from the first simulated point to the last section."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.simulate.families import run_all
from evaluation.simulate.links import over_links
from evaluation.simulate.pages.curves_page import write_curve_sections
from evaluation.simulate.pages.papers_page import audit_section, papers_section, replies_file, slow_section
from evaluation.simulate.pages.sweeps_page import link_section, snr_section, window_section
from evaluation.simulate.papers import (
    AS_PUBLISHED,
    CU_HLM_SKIPS,
    PAPERS_K,
    SHORTER,
    U_HLM_SKIPS,
    at_rate_of,
    audit,
    ks_of_what_is_sent,
    papers_table,
    risk_prone,
    skipping,
    slow_links,
)
from evaluation.simulate.replies import FILE_NAME, write_replies
from evaluation.simulate.study import Study
from evaluation.simulate.sweeps import SNRS_DB, over_snr, over_windows
from evaluation.simulate.variants import Case
from evaluation.simulate.world.accounting import PAPERS_VOCAB_SIZE

BANDWIDTH_MHZ, SNR_DB = 1.0, 5.0  # the operating point of tables that show only one
WINDOW_RATE_BPS = 1e6
SLOW_ROUND_TRIP_MS = 100.0
LINK_ROUND_TRIP_MS = 100.0
AUDIT_MHZ, AUDIT_SNRS_DB = 0.1, (-30.0, -20.0, *SNRS_DB)
RAND = "rand-hlm"


def write_sweeps(
    study: Study, variants: Sequence[str], folder: Path, header: str, count: int, delay: float
) -> None:
    """Write simulation.md without the curves; each point times `count` prompts."""
    about = f"{header}\n\n{count} held-out commands per point."
    snr_section(folder, about, over_snr(study, plain_cases(study, variants), delay=delay, count=count))
    windows = over_windows(study, rate_bps=WINDOW_RATE_BPS, count=count)
    window_section(folder, f"{about} Scheme lossless, {WINDOW_RATE_BPS / 1e6:g} Mbit/s.", windows)
    at = f"{LINK_ROUND_TRIP_MS:g} ms round trip, everything counted"
    link_section(
        folder,
        f"{header}\n\n{study.described}, one after another on one device; {at}.",
        over_links(study, round_trip_ms=LINK_ROUND_TRIP_MS),
    )


def write_curves(
    study: Study, variants: Sequence[str], folder: Path, header: str, count: int, delay: float
) -> None:
    """Write the comparisons at equal drift in both pages, over all prompts; `variants` and `count` unused."""
    del variants, count
    curves = run_all(study, delay, offline_ks(study))
    write_replies(folder / FILE_NAME, curves)
    write_curve_sections(folder, f"{header}\n\n{study.described}.", curves)


def offline_ks(study: Study) -> list[int]:
    """Return the k* of CU-HLM offline that are compared: of all tokens, of those sent, as published."""
    calibration = study.simulation("cu-hlm-offline").calibration
    calibrated = [calibration.offline_k, *ks_of_what_is_sent(calibration)] if calibration else []
    return [*calibrated, PAPERS_K]


def plain_cases(study: Study, variants: Sequence[str]) -> list[Case]:
    """Return the schemes with default settings, but rand-hlm at the rate of u-hlm."""
    cases = [Case(name, name, {}) for name in variants]
    if RAND not in variants:
        return cases
    matched = at_rate_of(study, Case("u-hlm", "u-hlm", {}), RAND)
    return [matched if case.name == RAND else case for case in cases]


def write_papers(
    study: Study, variants: Sequence[str], folder: Path, header: str, count: int, delay: float
) -> None:
    """Write papers.md without the claims; the audit and the slow links time `count` prompts."""
    del delay
    about = f"{header}\n\n{study.described}"
    skipping_as_published = (
        skipping(study, "u-hlm", U_HLM_SKIPS),
        skipping(study, "cu-hlm-offline", CU_HLM_SKIPS, max_ids=PAPERS_K),
        skipping(study, "cu-hlm-online", CU_HLM_SKIPS),
    )
    calibration = study.simulation("cu-hlm-offline").calibration
    sent = ks_of_what_is_sent(calibration) if calibration else []
    averse = {calibration.offline_k} if calibration else set[int]()
    cases = [
        *plain_cases(study, variants),
        *SHORTER,
        *(
            Case(f"cu-hlm-offline, k = {k}", "cu-hlm-offline", {"max_ids": k})
            for k in sorted({*sent} - averse)
        ),
        *(risk_prone(calibration, sent) if calibration else ()),
        *AS_PUBLISHED,
        at_rate_of(study, AS_PUBLISHED[0], "rand-hlm, at the rate of u-hlm as published"),
        *skipping_as_published,
    ]
    for name, size in (("papers-vocabulary", PAPERS_VOCAB_SIZE), ("own-vocabulary", study.pair.vocab_size)):
        rows = papers_table(study, cases, bandwidth_mhz=BANDWIDTH_MHZ, snr_db=SNR_DB, vocab_size=size)
        at = f"{BANDWIDTH_MHZ:g} MHz, {SNR_DB:g} dB; payloads for a vocabulary of {size:,}"
        papers_section(folder, name, f"{about}; {at}.", rows)
        replies_file(folder, rows, study.prompts, study.num_commands)
    audited, size = skipping_as_published[1], study.pair.vocab_size
    rows = audit(
        study,
        audited,
        bandwidth_mhz=AUDIT_MHZ,
        snrs_db=AUDIT_SNRS_DB,
        vocab_size=size,
        count=count,
    )
    at = f"{audited.label}, k = {PAPERS_K}; {AUDIT_MHZ:g} MHz, a vocabulary of {size:,}"
    audit_section(folder, f"{header}\n\n{count} held-out commands; {at}.", "CU-HLM", rows)
    at = f"{SLOW_ROUND_TRIP_MS:g} ms round trip, everything counted"
    slow = slow_links(study, round_trip_ms=SLOW_ROUND_TRIP_MS, count=count)
    slow_section(folder, f"{header}\n\n{count} held-out commands; {at}.", slow)
