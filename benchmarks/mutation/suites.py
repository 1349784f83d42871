"""Which tests may notice a fault in which package; those of them with a broker or a real model do not run."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Suite:
    """A pure package, and its tests in the order in which they run; `skipped` build a model themselves."""

    package: str
    tests: tuple[str, ...]
    impure: tuple[str, ...] = ()  # modules of the package that do I/O
    skipped: tuple[str, ...] = ()

    def modules(self, root: Path) -> list[str]:
        """The paths of the modules to mutate, relative to the root of the repository."""
        found = (path.relative_to(root).as_posix() for path in (root / self.package).rglob("*.py"))
        return sorted(path for path in found if path not in self.impure)


SUITES = (
    Suite(
        "common/sampling",
        (
            "tests/common/test_sampling.py",
            "tests/edge_agent/test_policy.py",
            "tests/laws/test_laws.py",
            "tests/laws/test_penalties.py",
        ),
    ),
    Suite(
        "common/protocol",
        (
            "tests/common/test_topics.py",
            "tests/common/test_log.py",
            "tests/common/test_protocol_document.py",
            "tests/common/test_end_ids.py",
            "tests/common/test_worker_status.py",
            "tests/common/test_packed.py",
            "tests/common/test_codec.py",
        ),
    ),
    Suite(
        "edge_agent/policy",
        (
            "tests/edge_agent/test_policy.py",
            "tests/edge_agent/test_cheapest_k.py",
            "tests/edge_agent/test_link_estimate.py",
            "tests/edge_agent/test_large_vocabularies.py",
        ),
    ),
    Suite(
        "edge_agent/session",
        (
            "tests/edge_agent/test_in_flight.py",
            "tests/edge_agent/test_send_window.py",
            "tests/edge_agent/test_tally.py",
            "tests/edge_agent/test_round_trip.py",
            "tests/edge_agent/test_pacing.py",
            "tests/laws/test_cold_start.py",
            "tests/edge_agent/test_audit.py",
            "tests/laws/test_reading_ahead.py",
            "tests/laws/test_sessions.py",
            "tests/laws/test_endings.py",
            "tests/laws/test_bad_link.py",
            "tests/laws/test_two_models_ends.py",
            "tests/laws/test_drafting_errors.py",
        ),
    ),
    Suite(
        "edge_agent/tuning",
        (
            "tests/edge_agent/test_link_estimate.py",
            "tests/edge_agent/test_calibration_file.py",
            "tests/edge_agent/test_risk_control.py",
        ),
        impure=("edge_agent/tuning/calibration_file.py",),
    ),
    Suite(
        "cloud_worker/session",
        (
            "tests/cloud_worker/test_admission.py",
            "tests/cloud_worker/test_prefix_checks.py",
            "tests/cloud_worker/test_scheduler.py",
            "tests/cloud_worker/test_bad_logits.py",
            "tests/laws/test_laws.py",
            "tests/laws/test_sessions.py",
            "tests/laws/test_endings.py",
            "tests/laws/test_bad_link.py",
        ),
        skipped=(
            "tests/cloud_worker/test_bad_logits.py::test_keys_and_values_that_are_not_finite_reach_no_other_session",
        ),
    ),
    Suite(
        "cloud_worker/scheduling",
        (
            "tests/cloud_worker/test_scheduler.py",
            "tests/cloud_worker/test_retries.py",
            "tests/cloud_worker/test_charging.py",
            "tests/system/test_device_limits.py",
            "tests/cloud_worker/test_bad_logits.py",
        ),
        skipped=(
            "tests/cloud_worker/test_bad_logits.py::test_keys_and_values_that_are_not_finite_reach_no_other_session",
        ),
    ),
)
