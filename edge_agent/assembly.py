"""The parts of an agent, built from its config.

Law: a setting that was given wins over a calibration, and a calibration over the built-in default.
"""

import secrets
from dataclasses import fields, replace

from common.protocol.messages import Opening
from common.sampling.distribution import Sampling
from edge_agent.config import AgentConfig
from edge_agent.policy.policy import DEFAULT_MAX_IDS, Policy
from edge_agent.policy.rejection_fit import PUBLISHED_FIT
from edge_agent.policy.schemes import Form
from edge_agent.policy.uncertainty import DEFAULT_ESTIMATOR, ESTIMATORS
from edge_agent.session.pacing import Experience
from edge_agent.session.settings import OnCloudLoss, SessionSettings
from edge_agent.text.instructions import Instructions, read_system
from edge_agent.text.template_vars import parse_template_vars
from edge_agent.tuning.calibration import Calibration
from edge_agent.tuning.risk_control import DEFAULT_RISK, RiskControl, RiskCurve
from edge_agent.tuning.tuner import Numbers, Tuner

WINDOW_OF_FIXED_BLOCKS = 4
SKIPPING_SHARE_HELD = 0.25  # of the tokens, expected of a scheme that skips before it has drafted any
LEARNING_AUDIT_SHARE = 1 / 8  # of the answers: one that sends nothing would otherwise measure nothing


def choose_sampling(config: AgentConfig, default: Sampling) -> Sampling:
    """The model's sampling `default`, except where the config sets a value."""
    given = {field.name: getattr(config, field.name) for field in fields(Sampling)}
    return replace(default, **{name: value for name, value in given.items() if value is not None})


def build_instructions(config: AgentConfig) -> Instructions:
    """What every chat prompt begins with; raises ConfigError when the system prompt cannot be read."""
    system = read_system(config.system_file) if config.system_file is not None else config.system
    return Instructions(system, parse_template_vars(config.template_vars or "{}"))


def random_seed() -> int:
    """A new seed, short enough for any JSON reader."""
    return secrets.randbits(32)


def build_tuner(
    config: AgentConfig, calibration: Calibration | None = None, *, learns: bool = False
) -> Tuner:
    """What chooses the numbers of each generation over an agent's life.

    With `learns`, a threshold that neither the user nor a calibration has set follows the measured risk.
    """
    control, audit_share = None, 0.0
    risk = config.risk
    if risk is not None:
        audit_share = 1.0
    elif learns and _has_threshold_of_others(config, calibration):
        risk, audit_share = DEFAULT_RISK, LEARNING_AUDIT_SHARE
    if risk is not None:
        curve = RiskCurve.measured(calibration.operating_points) if calibration else None
        curve = curve or RiskCurve.guessed(config.chosen_scheme.threshold, risk)
        control = RiskControl(risk, curve)
    return Tuner(
        threshold=_threshold(config, calibration),
        fit=calibration.fit if calibration else PUBLISHED_FIT,
        byte_price=config.byte_price,
        control=control,
        rejection_cost=config.rejection_cost,
        audit_share=audit_share if config.audit is None else config.audit,
        experience=Experience(
            fit=calibration.fit if calibration else PUBLISHED_FIT,
            share_held=SKIPPING_SHARE_HELD if config.chosen_scheme.skips_certain else 1.0,
        ),
    )


def build_policy(
    config: AgentConfig,
    sampling: Sampling,
    seed: int,
    calibration: Calibration | None = None,
    numbers: Numbers | None = None,
) -> Policy:
    """The scheme with its numbers: `numbers` where the tuner has chosen them, else those of a new agent."""
    numbers = numbers or build_tuner(config, calibration).numbers()
    return Policy(
        scheme=config.chosen_scheme,
        sampling=sampling,
        seed=seed,
        threshold=numbers.threshold,
        max_ids=_max_ids(config, calibration),
        byte_price=numbers.byte_price,
        fit=calibration.fit if calibration else PUBLISHED_FIT,
        resolution=config.resolution,
        uplink_probability=config.uplink_probability,
        theta=config.theta,
        estimator=ESTIMATORS[_estimator(config, calibration)],
    )


def build_session_settings(
    config: AgentConfig,
    opening: Opening,
    stop_ids: frozenset[int],
    max_positions: int,
    *,
    audits: bool = False,
    experience: Experience | None = None,
    knows_grammar: bool = False,
) -> SessionSettings:
    """What one generation's state machine is run with."""
    scheme = config.chosen_scheme
    window = scheme.window if config.window is None else config.window
    if window is None and config.block_length is not None:
        window = WINDOW_OF_FIXED_BLOCKS
    target_decides = opening.sampling.greedy or scheme.form is Form.COUPLED
    return SessionSettings(
        opening=opening,
        stop_ids=stop_ids,
        max_tokens=config.max_tokens,
        max_positions=max_positions,
        knows_grammar=knows_grammar,
        drafts=scheme.drafts,
        may_stream=scheme.may_stream,
        asks_first=scheme.asks_first,
        wants_bonus=window == 1 and scheme.holds and target_decides,
        measures_risk=scheme.measures_risk,
        audits=audits,
        window=window,
        block_length=config.block_length,
        flushes=window is not None or (scheme.holds and config.threshold is not None),
        experience=experience or Experience(),
        on_cloud_loss=OnCloudLoss(config.on_cloud_loss),
        cloud_timeout=config.cloud_timeout,
    )


def _threshold(config: AgentConfig, calibration: Calibration | None) -> float:
    scheme = config.chosen_scheme
    if config.threshold is not None:
        return config.threshold
    if calibration is not None and scheme.is_risk_averse:
        return calibration.fit.risk_averse
    if calibration is not None and scheme.measures_risk and calibration.threshold is not None:
        return calibration.threshold
    return scheme.threshold


def _has_threshold_of_others(config: AgentConfig, calibration: Calibration | None) -> bool:
    """Whether the threshold is that of other models, and what it risks is measured."""
    is_set = config.threshold is not None or config.rejection_cost > 0.0 or calibration is not None
    return config.chosen_scheme.measures_risk and not is_set


def _estimator(config: AgentConfig, calibration: Calibration | None) -> str:
    if config.estimator is not None:
        return config.estimator
    return calibration.estimator if calibration is not None else DEFAULT_ESTIMATOR


def _max_ids(config: AgentConfig, calibration: Calibration | None) -> int:
    if config.max_ids is not None:
        return config.max_ids
    if calibration is not None and config.chosen_scheme.form is Form.TOP_K:
        return calibration.offline_k
    return DEFAULT_MAX_IDS
