"""Generations of a pair of models, token by token: all that a fleet simulation needs of them. Pure.

With a fixed threshold the text is a function of prompt, seed and models. So a trace is valid at any speed,
window and block length; when blocks are sent and what waits for them is simulated each time.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SKIPPED, HELD, ASKED = "s", "h", "u"  # by the gate; a capital letter marks a token that the target replaced

TYPICAL_BLOCK = 8  # held tokens that are sent together, roughly


@dataclass(frozen=True, slots=True)
class Trace:
    """One generation: the number of prompt tokens, and one letter per token of the answer.

    `uncertainty` is that of each token if it decides where blocks end; otherwise it is empty.
    """

    num_prompt: int
    steps: str
    uncertainty: tuple[float, ...] = ()

    def is_rejected(self, index: int) -> bool:
        """Whether the draft token at `index` was rejected."""
        return self.steps[index].isupper()


@dataclass(frozen=True, slots=True)
class SchemeTraces:
    """A scheme's generations; bytes are whole MQTT packets, except for those of tokens, which are added.

    `drafts` False: the target writes alone, one pass per token. `context_bytes` are the bytes of a skipped or
    prompt token, `token_bytes` the mean bytes of a token to verify with its distribution.
    """

    window: int | None  # None: as the agent chooses it
    drafts: bool
    open_bytes: float
    draft_bytes: float
    context_bytes: float
    token_bytes: float
    correction_bytes: float
    traces: tuple[Trace, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SchemeTraces":
        """Read what `to_json` returned."""
        traces = tuple(Trace(num, steps, tuple(values)) for num, steps, values in value["traces"])
        others = {name: each for name, each in value.items() if name != "traces"}
        return cls(**others, traces=traces)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a file."""
        return {
            **asdict(self),
            "traces": [[one.num_prompt, one.steps, one.uncertainty] for one in self.traces],
        }

    @property
    def mean_tokens(self) -> float:
        """Mean tokens per answer."""
        return sum(len(each.steps) for each in self.traces) / len(self.traces)

    @property
    def mean_answers(self) -> float:
        """Corrections per answer, roughly, to size a simulation."""
        steps = "".join(each.steps.lower() for each in self.traces)
        num_blocks = steps.count(ASKED) + steps.count(HELD) / TYPICAL_BLOCK
        return max(0.1, num_blocks / len(self.traces))

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted over tested (not skipped) tokens; None if nothing is tested."""
        steps = "".join(each.steps for each in self.traces)
        num_tested = len(steps) - steps.count(SKIPPED)
        num_rejected = sum(step.isupper() for step in steps)
        return 1 - num_rejected / num_tested if num_tested and self.drafts else None
