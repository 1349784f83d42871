"""How long this machine's models take: draft tokens, and passes over one and several sessions.

Law: the models themselves are timed, not their cached logits; figures are medians of several runs.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from scipy.optimize import nnls

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.target_model import TargetModel
from cloud_worker.target_model.layers import layer_shapes
from cloud_worker.target_model.loading import load
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.draft_model.source import resolve
from evaluation.fleet.inputs import PassTime
from evaluation.simulate.world.compute import Compute

NUM_RUNS = 5
PAST = 96  # tokens that a session holds
GRID = ((1, 1), (1, 4), (1, 16), (2, 4), (4, 1), (4, 4))  # sessions, new tokens of each


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: of a draft token, of a prompt token on the device, and of passes as `PassTime` fits them.

    The last two figures size the target on a GPU that is not here.
    """

    draft: float
    prompt: float
    fixed: float
    per_session: float
    per_token: float
    num_parameters: int = 0  # of the target
    cache_bytes: int = 0  # of its keys and values, per token in 16 bits

    @property
    def compute(self) -> Compute:
        """For a worker with few sessions."""
        return Compute(
            draft_seconds=self.draft,
            prompt_seconds=self.prompt,
            pass_seconds=self.fixed + self.per_session,
            position_seconds=self.per_token,
        )

    def passes(self, source: str) -> PassTime:
        """For a fleet."""
        return PassTime(self.fixed, self.per_session, self.per_token, source)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return what `to_json` wrote."""
        return cls(**values)


def measure(draft: str, target: str, dtype: str, num_threads: int) -> Times:
    """Measure both models one after the other, with one thread for the draft model.

    Raises ModelError or TargetModelError.
    """
    one, many = _drafting(draft)
    torch.set_num_threads(num_threads)
    loaded = load(target, device="cpu", dtype=dtype, device_map=None)
    cache_bytes = sum(shape.token_bytes for shape in layer_shapes(loaded.model).values())
    num_parameters = int(loaded.model.num_parameters())
    points = _passes(TargetModel(loaded))
    terms = np.array([[1.0, sessions, sessions * new] for sessions, new, _ in points])
    seconds = np.array([each[2] for each in points])
    (fixed, per_session, per_token), _ = nnls(terms / seconds[:, None], np.ones(len(points)))
    return Times(
        one,
        max(0.0, many),
        float(fixed),
        float(per_session),
        float(per_token),
        num_parameters,
        2 * cache_bytes // loaded.model.dtype.itemsize,
    )


def _drafting(draft: str) -> tuple[float, float]:
    """The seconds of a draft token, and of each token of a prompt."""
    model = DraftModel.load(resolve(draft), num_threads=1)
    text = [1 + number % 200 for number in range(2 * PAST)]

    def one(number: int) -> None:
        model.logits([*text[:PAST], 7, *[1 + number % 200] * 4])

    def prepare(number: int) -> None:
        model.logits([*text[:PAST], 7, *[1 + number % 200] * 3])

    def read(number: int) -> None:
        model.logits([2 + number, *text])

    token = _median(one, prepare)
    return token, (_median(read) - token) / (2 * PAST)


def _passes(model: TargetModel) -> Sequence[tuple[int, int, float]]:

    def tokens(session: int, length: int) -> list[int]:
        return [1 + (number * (session + 3)) % 200 for number in range(length)]

    def timed(num_sessions: int, new: int) -> float:
        def prepare(_: int) -> None:
            for session in range(num_sessions):
                model.logits([Pass(session, tokens(session, PAST), 1)])

        def run(number: int) -> None:
            asked = [
                Pass(session, [*tokens(session, PAST), *[1 + number % 200] * new], new)
                for session in range(num_sessions)
            ]
            model.logits(asked)

        return _median(run, prepare)

    return [(sessions, new, timed(sessions, new)) for sessions, new in GRID]


def _median(run: Callable[[int], object], prepare: Callable[[int], object] | None = None) -> float:
    found: list[float] = []
    for number in range(NUM_RUNS + 1):
        if prepare is not None:
            prepare(number)
        began = time.perf_counter()
        run(number)
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])
