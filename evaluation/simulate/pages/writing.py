"""Makes the two pages, from the first simulated point to the last section."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.simulate.links import over_links
from evaluation.simulate.pages.papers_page import audit_section, claims_section, papers_section
from evaluation.simulate.pages.sweeps_page import accuracy_section, link_section, snr_section, window_section
from evaluation.simulate.papers import (
    AS_PUBLISHED,
    CLAIM_SNRS_DB,
    CU_HLM_SKIPS,
    OURS,
    PAPERS_K,
    U_HLM_SKIPS,
    audit,
    claims,
    papers_table,
    skipping,
    slow_links,
)
from evaluation.simulate.study import PAPERS_VOCAB_SIZE, Study
from evaluation.simulate.sweeps import SNRS_DB, over_snr, over_thresholds, over_windows
from evaluation.simulate.variants import Case

BANDWIDTH_MHZ, SNR_DB = 1.0, 5.0  # the operating point of tables that show only one
WINDOW_RATE_BPS = 1e6
SLOW_ROUND_TRIP_MS = 100.0
LINK_ROUND_TRIP_MS = 100.0
LONGER = (Case(f"cu-hlm-offline, k = {PAPERS_K}", "cu-hlm-offline", {"max_ids": PAPERS_K}),)
AUDIT_MHZ, AUDIT_SNRS_DB = 0.1, (-30.0, -20.0, *SNRS_DB)


def write_sweeps(
    study: Study, variants: Sequence[str], folder: Path, header: str, count: int, delay: float
) -> None:
    """Write simulation.md; each point times `count` prompts, speed against accuracy times all of them."""
    about = f"{header}\n\n{count} held-out commands per point."
    snr_section(folder, about, over_snr(study, variants, delay=delay, count=count))
    at = f"{BANDWIDTH_MHZ:g} MHz, {SNR_DB:g} dB, {1000 * delay:g} ms one way, everything counted"
    cases = [
        case
        for name in variants
        for case in (Case(name, name, {}), *(LONGER if name == LONGER[0].name else ()))
    ]
    points = over_thresholds(study, cases, bandwidth_mhz=BANDWIDTH_MHZ, snr_db=SNR_DB, delay=delay)
    accuracy_section(folder, f"{header}\n\n{len(study.prompts)} held-out commands; {at}.", points)
    windows = over_windows(study, rate_bps=WINDOW_RATE_BPS, count=count)
    window_section(folder, f"{about} Scheme lossless, {WINDOW_RATE_BPS / 1e6:g} Mbit/s.", windows)
    at = f"{LINK_ROUND_TRIP_MS:g} ms round trip, everything counted"
    link_section(
        folder,
        f"{header}\n\n{len(study.prompts)} held-out commands, one after another on one device; {at}.",
        over_links(study, round_trip_ms=LINK_ROUND_TRIP_MS),
    )


def write_papers(
    study: Study, variants: Sequence[str], folder: Path, header: str, count: int, delay: float
) -> None:
    """Write papers.md; the audit and the claims time `count` prompts."""
    about = f"{header}\n\n{len(study.prompts)} held-out commands"
    skipping_as_published = (
        skipping(study, "u-hlm", U_HLM_SKIPS),
        skipping(study, "cu-hlm-offline", CU_HLM_SKIPS, max_ids=PAPERS_K),
        skipping(study, "cu-hlm-online", CU_HLM_SKIPS),
    )
    cases = [*(Case(name, name, {}) for name in variants), *OURS[1:3], *AS_PUBLISHED, *skipping_as_published]
    for name, size in (("papers-vocabulary", PAPERS_VOCAB_SIZE), ("own-vocabulary", study.pair.vocab_size)):
        rows = papers_table(study, cases, bandwidth_mhz=BANDWIDTH_MHZ, snr_db=SNR_DB, vocab_size=size)
        at = f"{BANDWIDTH_MHZ:g} MHz, {SNR_DB:g} dB; payloads for a vocabulary of {size:,}"
        papers_section(folder, name, f"{about}; {at}.", rows)
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
    found = claims(study, delay=delay, vocab_size=PAPERS_VOCAB_SIZE, count=count)
    slow = slow_links(study, round_trip_ms=SLOW_ROUND_TRIP_MS, count=count)
    at = f"speeds and bytes over the first {count}, at the worst SNR from {min(CLAIM_SNRS_DB):g} to "
    at += f"{max(CLAIM_SNRS_DB):g} dB"
    claims_section(folder, f"{about}, {at}.", found, slow)
