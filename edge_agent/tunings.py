"""What an agent has learned, for each of the ways in which its generations are run.

Law: what one kind of request teaches changes no other kind: there is a tuner for each combination of scheme,
settings that decide its numbers, and sampling. They share the link, which is the same for all. Kinds that
were not asked for lately are forgotten.
"""

from collections import OrderedDict
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from common.sampling.distribution import Sampling
from edge_agent.assembly import build_tuner, choose_sampling
from edge_agent.config import AgentConfig
from edge_agent.draft_model.files import ModelInfo
from edge_agent.text.tokenizer import Text
from edge_agent.tuning.calibration import Calibration
from edge_agent.tuning.calibration_file import find_calibration
from edge_agent.tuning.faster import Faster
from edge_agent.tuning.link_estimate import LinkEstimate
from edge_agent.tuning.tuner import Tuner

MAX_KINDS = 16  # besides the agent's own

Kind: TypeAlias = tuple[object, ...]


class Tuning(NamedTuple):
    """A tuner, and the calibration that it was built from."""

    tuner: Tuner
    calibration: Calibration | None


class Tunings:
    """One agent's tuners; raises CalibrationError for a calibration file that cannot be used."""

    def __init__(self, config: AgentConfig, info: ModelInfo, text: Text) -> None:
        self._info = info
        self._text = text
        self.link = LinkEstimate()
        self.faster = Faster(("opportunistic", "auto"))
        sampling = choose_sampling(config, info.sampling)
        self._own_kind = _kind(config, sampling)
        self._own = self._build(config, sampling)
        self._others: OrderedDict[Kind, Tuning] = OrderedDict()

    @property
    def own(self) -> Tuner:
        """That of the agent's config."""
        return self._own.tuner

    def of(self, config: AgentConfig, sampling: Sampling) -> Tuning:
        """That of a generation with this config."""
        kind = _kind(config, sampling)
        if kind == self._own_kind:
            return self._own
        if kind not in self._others:
            self._others[kind] = self._build(config, sampling)
            if len(self._others) > MAX_KINDS:
                self._others.popitem(last=False)
        self._others.move_to_end(kind)
        return self._others[kind]

    def settled(self, config: AgentConfig) -> AgentConfig:
        """The config that an answer is written with: with a risk, `auto` may choose opportunistic."""
        if not config.chooses_scheme:
            return config
        name = self.faster.choose()
        is_exact = name == config.chosen_scheme.name
        return replace(config, risk=None, audit=None) if is_exact else replace(config, scheme=name)

    def _build(self, config: AgentConfig, sampling: Sampling) -> Tuning:
        calibration = None
        if config.uses_calibration:
            calibration = find_calibration(
                self._info.folder,
                config.calibration,
                tokenizer=self._text.fingerprint,
                sampling=sampling,
                estimator=config.estimator,
            )
        tuner = build_tuner(config, calibration, learns=True)
        tuner.link = self.link
        return Tuning(tuner, calibration)


def _kind(config: AgentConfig, sampling: Sampling) -> Kind:
    """All that a tuner's numbers depend on and that may differ between the generations of an agent."""
    return (
        config.chosen_scheme.name,
        config.threshold,
        config.risk,
        config.audit,
        config.rejection_cost,
        config.byte_price,
        sampling,
    )
