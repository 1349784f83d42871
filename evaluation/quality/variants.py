"""The variants to score: every scheme at its default threshold and at those of the pair's calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.config import AgentConfig
from edge_agent.policy.schemes import SCHEMES, Form
from edge_agent.tuning.calibration import Calibration

PAPERS = ("u-hlm", "cu-hlm-offline", "cu-hlm-online")
NUM_IDS = 32  # ids that a truncated distribution keeps, unless the calibration has a k*
REFERENCE = "llm"  # the target model alone


@dataclass(frozen=True, slots=True)
class Variant:
    """A scheme with its numbers; `choice` names the origin of the threshold.

    With `fit`, CU-HLM online predicts rejections with the pair's own line instead of the published one.
    """

    scheme: str
    choice: str
    threshold: float
    max_ids: int = NUM_IDS
    fit: Calibration | None = None

    @property
    def key(self) -> str:
        """What the text depends on, apart from prompt, seed and temperature."""
        line = f" {self.fit.fit}" if self.fit else ""
        return f"{self.scheme} {self.threshold} {self.max_ids}{line}"

    def config(self, temperature: float | None, max_tokens: int) -> AgentConfig:
        """Return the agent's config; it sets the threshold, so the model's calibration file is not used."""
        return AgentConfig(
            scheme=self.scheme,
            threshold=self.threshold,
            temperature=temperature,
            max_tokens=max_tokens,
            max_ids=self.max_ids,
        )


def variants(calibration: Calibration | None, budgets: Sequence[float]) -> list[Variant]:
    """Return every scheme at its default threshold, and those with a gate at the calibration's thresholds."""
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
