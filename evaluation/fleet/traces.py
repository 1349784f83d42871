"""What generations of a pair of models looked like, token by token: all that a fleet must know of them. Pure.

Law 3 makes this possible: with a fixed threshold the text is a function of prompt, seed and models, so a
trace holds at any speed, window or block length; when blocks go up and what waits is simulated anew.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SKIPPED, HELD, ASKED = "s", "h", "u"  # by the gate; a capital letter is a token that the target replaced

TYPICAL_BLOCK = 8  # held tokens that go up together, roughly


@dataclass(frozen=True, slots=True)
class Trace:
    """One generation: tokens of the prompt, and one letter a token of the answer.

    `uncertainty` is that of each token, where blocks are cut by it; else empty.
    """

    num_prompt: int
    steps: str
    uncertainty: tuple[float, ...] = ()

    def is_rejected(self, index: int) -> bool:
        """Whether the draft token at `index` fell."""
        return self.steps[index].isupper()


@dataclass(frozen=True, slots=True)
class SchemeTraces:
    """A scheme's generations; bytes are whole MQTT packets, but for those of a token, which come on top.

    `drafts` False: the target writes alone, one pass a token. `context_bytes` are those of a skipped or
    prompt token, `token_bytes` those of a token to verify with its distribution (the mean).
    """

    window: int
    drafts: bool
    open_bytes: float
    draft_bytes: float
    context_bytes: float
    token_bytes: float
    correction_bytes: float
    traces: tuple[Trace, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SchemeTraces":
        """As `to_json` wrote it."""
        traces = tuple(Trace(num, steps, tuple(values)) for num, steps, values in value["traces"])
        others = {name: each for name, each in value.items() if name != "traces"}
        return cls(**others, traces=traces)

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return {
            **asdict(self),
            "traces": [[one.num_prompt, one.steps, one.uncertainty] for one in self.traces],
        }

    @property
    def mean_tokens(self) -> float:
        """Tokens of an answer."""
        return sum(len(each.steps) for each in self.traces) / len(self.traces)

    @property
    def mean_answers(self) -> float:
        """Corrections an answer, roughly: to size a simulation by."""
        steps = "".join(each.steps.lower() for each in self.traces)
        num_blocks = steps.count(ASKED) + steps.count(HELD) / TYPICAL_BLOCK
        return max(0.1, num_blocks / len(self.traces))

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted over tested tokens, the latter all but the skipped; None where nothing is tested."""
        steps = "".join(each.steps for each in self.traces)
        num_tested = len(steps) - steps.count(SKIPPED)
        num_rejected = sum(step.isupper() for step in steps)
        return 1 - num_rejected / num_tested if num_tested and self.drafts else None
