"""What is compared: our schemes by their settings, and two peers built from their descriptions.

Law: a way only says how an agent is set up and what its messages would weigh; sessions, verification and
codec are the same for all.

A peer's round is stop and wait: gamma draft tokens drawn from the whole x go up, the worker accepts a head of
them, and a token of the target's follows: resampled after a rejection, else one more (the bonus).

    sd-GAMMA    synchronous speculative decoding (arXiv 2211.17192) over the link: with each draft token goes
                its whole distribution
    dssd-GAMMA  DSSD (arXiv 2507.12000): ids and the probability of each draft token go up; after a rejection
                the target's whole row comes down, and the device, which has q, draws from norm((y - q)+)
                itself. The token is the same, so only what is counted differs.
"""

from dataclasses import dataclass, replace

from common.protocol.messages import Draft, DraftToken, Opening, ToDevice, ToWorker
from common.sampling.distribution import Sampling
from edge_agent.assembly import build_policy, build_session_settings
from edge_agent.config import AgentConfig
from edge_agent.policy.policy import Policy
from edge_agent.policy.schemes import SCHEMES, Form, Gate, Scheme
from edge_agent.session.settings import OnCloudLoss, SessionSettings
from edge_agent.tuning.calibration import Calibration
from edge_agent.tuning.tuner import Numbers
from evaluation.simulate.world.accounting import Extra, is_rejection

SYNCHRONOUS = Scheme("sd", Form.DENSE, Gate.NEVER, "speculative decoding, stop and wait", holds=True)
PEERS = ("sd", "dssd")
DEFAULT_GAMMA = 4


@dataclass(frozen=True, slots=True)
class Way:
    """A row of a comparison; `gamma` is the block length of a peer, 0 for our schemes."""

    name: str
    config: AgentConfig
    gamma: int = 0
    sends_rows_down: bool = False

    @property
    def scheme(self) -> Scheme:
        """Which gate and form it uses."""
        return SYNCHRONOUS if self.gamma else self.config.chosen_scheme

    @property
    def learns(self) -> bool:
        """Whether a generation is run with numbers that earlier ones of the same agent have led to."""
        config = self.config
        looks_at_bytes = config.max_ids == 0 and config.byte_price is None
        return bool(config.rejection_cost) or looks_at_bytes or config.risk is not None

    @property
    def is_lossless(self) -> bool:
        """Whether its text has exactly the target's law."""
        exact = self.scheme.form in (Form.DENSE, Form.LATTICE, Form.COUPLED)
        return not self.scheme.drafts or self.scheme.holds or (exact and self.scheme.gate is Gate.ALWAYS)

    def policy(
        self, sampling: Sampling, seed: int, calibration: Calibration | None, numbers: Numbers
    ) -> Policy:
        """As the agent makes it."""
        return replace(build_policy(self.config, sampling, seed, calibration, numbers), scheme=self.scheme)

    def settings(self, opening: Opening, stop_ids: frozenset[int], max_positions: int) -> SessionSettings:
        """As the agent makes them."""
        settings = build_session_settings(self.config, opening, stop_ids, max_positions)
        if not self.gamma:
            return settings
        return replace(settings, window=1, block_length=self.gamma, wants_bonus=True, drafts=True)

    def counted(self, message: ToWorker) -> tuple[ToWorker, Extra]:
        """What a message is counted as."""
        if not self.sends_rows_down or not isinstance(message, Draft):
            return message, Extra()
        block = tuple(DraftToken(drafted.token) for drafted in message.block)
        return replace(message, block=block), Extra(num_probs=len(block))

    def counted_down(self, message: ToDevice, num_block: int) -> Extra:
        """What comes down with an answer to a block of that many tokens."""
        return Extra(num_rows=int(self.sends_rows_down and is_rejection(message, num_block)))


@dataclass(frozen=True, slots=True)
class Case:
    """A way with what differs from its defaults, and what tables call it."""

    label: str
    name: str
    settings: dict[str, object]


def way(name: str, **settings: object) -> Way:
    """A scheme of ours, or a peer as `sd-4`, `dssd-4`; `settings` are those of an agent.

    ValueError for an unknown name, and what AgentConfig says about a setting.
    """
    settings.setdefault("on_cloud_loss", OnCloudLoss.WAIT.value)
    peer, _, gamma = name.partition("-")
    if peer in PEERS and (not gamma or gamma.isdigit()):
        length = int(gamma or DEFAULT_GAMMA)
        config = AgentConfig(scheme="hlm", **settings)  # pyright: ignore[reportArgumentType]
        return Way(f"{peer}-{length}", config, gamma=length, sends_rows_down=peer == "dssd")
    if name not in SCHEMES:
        raise ValueError(f"there is no scheme {name!r}: choose of {', '.join((*SCHEMES, *PEERS))}")
    return Way(name, AgentConfig(scheme=name, **settings))  # pyright: ignore[reportArgumentType]
