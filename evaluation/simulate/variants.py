"""What is compared: our schemes with their settings, and two peers built from their descriptions.

Law: a variant only decides how an agent is configured and how its messages are counted; sessions,
verification and codec are the same for all.

A peer's round is stop and wait: gamma draft tokens, drawn from the whole distribution x, are sent; the worker
accepts the first of them up to a rejection, and one token of the target's follows: resampled after a
rejection, otherwise the bonus token.

    sd-GAMMA    synchronous speculative decoding (arXiv 2211.17192) over the link: each draft token is sent
                with its whole distribution
    dssd-GAMMA  DSSD (arXiv 2507.12000): only the id and probability of each draft token are sent; after a
                rejection the target's whole row comes back, and the device, which has q, draws from
                norm((y - q)+) itself. The token is the same, so only the counting differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from common.protocol.messages import Correction, Draft, DraftToken, Opening, ToDevice, ToWorker
from common.sampling.distribution import Sampling
from edge_agent.assembly import build_policy, build_session_settings
from edge_agent.config import AgentConfig
from edge_agent.policy.policy import Policy
from edge_agent.policy.schemes import SCHEMES, Form, Gate, Scheme
from edge_agent.session.pacing import Experience
from edge_agent.session.settings import OnCloudLoss, SessionSettings
from edge_agent.tuning.calibration import Calibration
from edge_agent.tuning.tuner import Numbers
from evaluation.simulate.world.accounting import Extra, is_rejection

SYNCHRONOUS = Scheme("sd", Form.DENSE, Gate.NEVER, "speculative decoding, stop and wait", holds=True)
PEERS = ("sd", "dssd")
GAMMAS = range(1, 9)  # the block lengths from which a peer's is tuned


@dataclass(frozen=True, slots=True)
class Variant:
    """A scheme with its settings, or a peer; `gamma` is the block length of a peer, 0 for our schemes."""

    name: str
    config: AgentConfig
    gamma: int = 0
    sends_rows_down: bool = False

    @property
    def scheme(self) -> Scheme:
        """The scheme with its gate and form."""
        return SYNCHRONOUS if self.gamma else self.config.chosen_scheme

    @property
    def learns(self) -> bool:
        """Whether a generation depends on what the agent learned in earlier ones."""
        config = self.config
        looks_at_bytes = config.max_ids == 0 and config.byte_price is None
        return bool(config.rejection_cost) or looks_at_bytes or config.risk is not None

    @property
    def is_lossless(self) -> bool:
        """Whether its texts have exactly the target's distribution."""
        exact = self.scheme.form in (Form.DENSE, Form.LATTICE, Form.COUPLED)
        return not self.scheme.drafts or self.scheme.holds or (exact and self.scheme.gate is Gate.ALWAYS)

    def policy(
        self, sampling: Sampling, seed: int, calibration: Calibration | None, numbers: Numbers
    ) -> Policy:
        """Return the policy as the agent makes it."""
        return replace(build_policy(self.config, sampling, seed, calibration, numbers), scheme=self.scheme)

    def settings(
        self,
        opening: Opening,
        stop_ids: frozenset[int],
        max_positions: int,
        experience: Experience | None = None,
    ) -> SessionSettings:
        """Return the session's settings as the agent makes them."""
        settings = build_session_settings(
            self.config, opening, stop_ids, max_positions, experience=experience
        )
        if not self.gamma:
            return settings
        return replace(settings, window=1, block_length=self.gamma, wants_bonus=True, drafts=True)

    def counted(self, message: ToWorker) -> tuple[ToWorker, Extra]:
        """Return what a message is counted as."""
        if not self.sends_rows_down or not isinstance(message, Draft):
            return message, Extra()
        block = tuple(DraftToken(drafted.token) for drafted in message.block)
        return replace(message, block=block), Extra(num_probs=len(block))

    def counted_down(self, message: ToDevice, draft: Draft | None) -> Extra:
        """Return how the answer to a draft differs from a peer's, and from the papers'."""
        if draft is None or not isinstance(message, Correction):
            return Extra()
        return Extra(
            num_rows=int(self.sends_rows_down and is_rejection(message, len(draft.block))),
            num_end_id_bytes=max(0, len(message.context_codes) - draft.num_context_probs),
        )


@dataclass(frozen=True, slots=True)
class Case:
    """A variant by its name, the settings that differ from the defaults, and its label in tables."""

    label: str
    name: str
    settings: dict[str, object]


def variant(name: str, **settings: object) -> Variant:
    """Return a scheme of ours, or a peer as `sd-4`, `dssd-4`; `settings` are those of an agent.

    ValueError for an unknown name, or a setting that AgentConfig rejects.
    """
    settings.setdefault("on_cloud_loss", OnCloudLoss.WAIT.value)
    peer, _, gamma = name.partition("-")
    if peer in PEERS and gamma.isdigit() and int(gamma):
        length = int(gamma)
        config = AgentConfig(scheme="hlm", **settings)  # pyright: ignore[reportArgumentType]
        return Variant(f"{peer}-{length}", config, gamma=length, sends_rows_down=peer == "dssd")
    if name not in SCHEMES:
        names = (*SCHEMES, *(f"{peer}-4" for peer in PEERS))
        raise ValueError(f"there is no scheme {name!r}: choose from {', '.join(names)}")
    return Variant(name, AgentConfig(scheme=name, **settings))  # pyright: ignore[reportArgumentType]


def best_length(rates: Mapping[int, float]) -> int:
    """Return the block length with the most tokens/s; of equal ones the shortest."""
    return min(rates, key=lambda length: (-rates[length], length))
