"""What is compared, and what each way's text is worth: the same, by a law, or nearly, as measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_agent.policy.schemes import SCHEMES
from evaluation.simulate.variants import Variant, variant

EXACT = "the target's, exactly"


@dataclass(frozen=True, slots=True)
class Way:
    """A scheme with its settings; `in_fleet` False: it is another one of them for a worker."""

    label: str
    scheme: str
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    in_fleet: bool = True

    @property
    def drifts(self) -> bool:
        """Whether tokens are skipped, so that the text is the target's except for a measured risk."""
        return SCHEMES[self.scheme].skips_certain

    def variant(self, max_tokens: int) -> Variant:
        """Return the agent's settings."""
        return variant(self.scheme, max_tokens=max_tokens, **self.settings)


def ways(threshold: float | None) -> list[Way]:
    """Return all ways; `threshold` is that of opportunistic (None: the scheme's, or its calibration's)."""
    given: dict[str, object] = {} if threshold is None else {"threshold": threshold}
    return [
        Way("llm", "llm"),
        Way("lossless", "lossless"),
        Way("coupled", "coupled"),
        Way("auto", "auto", in_fleet=False),
        Way("opportunistic", "opportunistic", given),
        Way("hlm", "hlm"),
        Way("u-hlm", "u-hlm"),
    ]
