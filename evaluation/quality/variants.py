"""Which schemes are judged, at which thresholds: the defaults, and those of the pair's calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.config import AgentConfig
from edge_agent.policy.schemes import SCHEMES, Form
from edge_agent.tuning.calibration import Calibration

PAPERS = ("u-hlm", "cu-hlm-offline", "cu-hlm-online")
NUM_IDS = 32  # that a truncated distribution keeps, unless the calibration says otherwise
REFERENCE = "llm"  # the target model alone


@dataclass(frozen=True, slots=True)
class Variant:
    """A scheme with its numbers; `choice` says where the threshold comes from.

    With `fit`, CU-HLM online foretells rejections by the pair's own line instead of the published one.
    """

    scheme: str
    choice: str
    threshold: float
    max_ids: int = NUM_IDS
    fit: Calibration | None = None

    @property
    def key(self) -> str:
        """What its text depends on beside prompt, seed and temperature."""
        line = f" {self.fit.fit}" if self.fit else ""
        return f"{self.scheme} {self.threshold} {self.max_ids}{line}"

    def config(self, temperature: float | None, max_tokens: int) -> AgentConfig:
        """The agent's settings; thresholds are always named, so no calibration beside the model decides."""
        return AgentConfig(
            scheme=self.scheme,
            threshold=self.threshold,
            temperature=temperature,
            max_tokens=max_tokens,
            max_ids=self.max_ids,
        )


def variants(calibration: Calibration | None, budgets: Sequence[float]) -> list[Variant]:
    """Every scheme at its published or default threshold, and at the calibration's where it skips by one."""
    found = [Variant(name, "default", scheme.threshold) for name, scheme in SCHEMES.items()]
    if calibration is None:
        return found
    for name in PAPERS:
        max_ids = calibration.offline_k if SCHEMES[name].form is Form.TOP_K else NUM_IDS
        fit = calibration if SCHEMES[name].adaptive_k else None
        averse, prone = calibration.fit.risk_averse, min(1.0, max(0.0, calibration.risk_prone))
        found.append(Variant(name, "risk-averse, calibrated", averse, max_ids, fit))
        found.append(Variant(name, "risk-prone, calibrated", prone, max_ids, fit))
    for budget in budgets:
        threshold = calibration.threshold_for(budget)
        found.append(Variant("opportunistic", f"risk budget {budget:g}", threshold))
    order = list(SCHEMES)
    return sorted(found, key=lambda each: order.index(each.scheme))
