"""How the uncertainty of a real draft model goes with rejection: the figures of `evaluation calibrate`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from edge_agent.config import AgentConfig
from edge_agent.policy.schemes import SCHEMES
from evaluation.calibrate.analysis import Analysis, analyse
from evaluation.calibrate.association import FIGURES
from evaluation.calibrate.samples import HYBRID, Walk
from evaluation.calibrate.tradeoff import THETA
from evaluation.calibrate.walking import walk_prompt
from evaluation.models.pair import Pair
from evaluation.real_models.answering import RISKS

MAX_TOKENS = 96
SCHEME = "opportunistic"


@dataclass(frozen=True, slots=True)
class Association:
    """Figures as shown: (estimator, Pearson, Spearman, AUROC), (choice, threshold, risk, uplink rate)."""

    num_prompts: int
    num_tokens: int
    rejection: str
    best: str
    estimators: Sequence[Sequence[str]]
    choices: Sequence[Sequence[str]]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return what `to_json` wrote."""
        return cls(**values)


def associate_pair(pair: Pair, prompts: Sequence[str], progress: Callable[[], object]) -> Association:
    """Let the draft model answer alone at its own sampling, and the target judge each token."""
    assert SCHEME in SCHEMES
    config = AgentConfig(scheme=SCHEME, threshold=1.0, max_tokens=MAX_TOKENS)
    walks: list[Walk] = []
    for seed, prompt in enumerate(prompts, 1):
        walks.append(walk_prompt(pair, config, prompt, seed)[HYBRID])
        progress()
    return described(analyse({HYBRID: walks}, None, RISKS, THETA, iter), len(prompts))


def described(found: Analysis, num_prompts: int) -> Association:
    """Return the figures of an analysis as they are shown."""
    associations, level = found.associations, found.levels[HYBRID]
    return Association(
        num_prompts,
        level.num_tokens,
        f"{level.rejection:.3f}",
        associations.best("auroc"),
        [
            (name, *(f"{associations.of(name, figure):.2f}" for figure in FIGURES))
            for name in associations.estimators
        ],
        [
            (each.name, f"{each.threshold:.3g}", f"{each.risk:.4f}", f"{each.uplink_rate:.3f}")
            for each in found.choices
        ],
    )
