"""The schemes by name: what a draft token is drawn from, what goes up, and which gate decides.

A scheme is one row of this table; `policy` carries it out. The papers' schemes follow
arXiv 2412.12687 (HLM, Rand-HLM, U-HLM) and arXiv 2505.11788 (CU-HLM); the last three are ours.
"""

from dataclasses import dataclass
from enum import Enum


class Form(Enum):
    """What a draft token is drawn from, and what is sent with it."""

    NOTHING = "nothing"  # drawn from x; nothing is ever sent
    DENSE = "dense"  # drawn from x, and all of x is sent
    TOP_K = "top-k"  # drawn from x, then the k largest are sent (the order of the paper, biased)
    LATTICE = "lattice"  # truncated and quantised first, drawn from what is sent (exact)
    COUPLED = "coupled"  # drawn with noise that the worker shares; only ids are sent (exact)


class Gate(Enum):
    """When a token must be verified."""

    NEVER = "never"
    ALWAYS = "always"
    COIN = "coin"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way to divide the work between the draft and the target model."""

    name: str
    form: Form
    gate: Gate
    summary: str
    holds: bool = False  # lossless: nothing is final before it is verified; the gate flushes the block
    drafts: bool = True  # False: the target model writes alone
    adaptive_k: bool = False  # k per token (CU-HLM online) instead of the setting's
    threshold: float = 1.0  # the default of the setting
    is_risk_averse: bool = False  # the papers' risk-averse threshold, which a calibration replaces
    window: int | None = 1  # drafts in flight by default: the papers wait for each answer; None: measured
    may_stream: bool = False  # the target model writes alone wherever that is faster
    measures_risk: bool = False  # asks for the target's probability of the skipped tokens

    @property
    def skips_certain(self) -> bool:
        """Whether a token below the threshold is final without the target model."""
        return self.gate is Gate.UNCERTAIN and not self.holds

    @property
    def asks_first(self) -> bool:
        """Whether the first draft token surely goes up."""
        return self.drafts and (self.holds or self.gate is Gate.ALWAYS)


RISK_AVERSE_U_HLM = 0.073  # -b / a as published: no rejection is expected below (docs/method.md)
RISK_AVERSE_CU_HLM = 0.081

SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("slm", Form.NOTHING, Gate.NEVER, "the draft model alone, offline"),
        Scheme("llm", Form.NOTHING, Gate.NEVER, "the target model alone, streamed down", drafts=False),
        Scheme("hlm", Form.DENSE, Gate.ALWAYS, "every token up with its whole distribution"),
        Scheme("rand-hlm", Form.DENSE, Gate.COIN, "as hlm, for a random share of the tokens"),
        Scheme(
            "u-hlm",
            Form.DENSE,
            Gate.UNCERTAIN,
            "as hlm, for uncertain tokens only",
            threshold=RISK_AVERSE_U_HLM,
            is_risk_averse=True,
        ),
        Scheme(
            "cu-hlm-offline",
            Form.TOP_K,
            Gate.UNCERTAIN,
            "uncertain tokens with their k largest probabilities",
            threshold=RISK_AVERSE_CU_HLM,
            is_risk_averse=True,
        ),
        Scheme(
            "cu-hlm-online",
            Form.TOP_K,
            Gate.UNCERTAIN,
            "the same with k chosen for each token",
            threshold=RISK_AVERSE_CU_HLM,
            is_risk_averse=True,
            adaptive_k=True,
        ),
        Scheme(
            "opportunistic",
            Form.LATTICE,
            Gate.UNCERTAIN,
            "certain tokens at once, uncertain ones verified exactly",
            threshold=0.08,
            window=None,
            measures_risk=True,
        ),
        Scheme(
            "lossless",
            Form.LATTICE,
            Gate.UNCERTAIN,
            "exactly the target's distribution; blocks end where a rejection is likely",
            threshold=0.5,
            window=None,
            holds=True,
        ),
        Scheme(
            "coupled",
            Form.COUPLED,
            Gate.UNCERTAIN,
            "exactly the target's text for the seed; only ids go up",
            threshold=0.5,
            window=None,
            holds=True,
        ),
        Scheme(
            "auto",
            Form.COUPLED,
            Gate.UNCERTAIN,
            "the same text as coupled and llm, drafted or streamed: the faster by measurement",
            threshold=0.5,
            window=None,
            holds=True,
            may_stream=True,
        ),
    )
}
