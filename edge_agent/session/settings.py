"""What a generation is run with: frozen values for the session's state machine. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum

from common.protocol.messages import Opening
from edge_agent.session.pacing import Experience


class OnCloudLoss(StrEnum):
    """What to do when no worker answers for `cloud_timeout` seconds."""

    LOCAL = "local"  # continue with the draft model, mark the tokens, try again later
    WAIT = "wait"  # keep asking
    FAIL = "fail"  # stop with an error


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Times are in seconds, lengths in tokens."""

    opening: Opening
    stop_ids: frozenset[int]
    max_tokens: int  # generated tokens
    max_positions: int  # prompt and generated tokens together
    knows_grammar: bool = False  # a worker of the pool holds the opening's grammar, as far as known
    drafts: bool = True  # False: the target model writes alone
    may_stream: bool = False  # the target model may write the rest alone where that is faster
    asks_first: bool = False  # the first draft token surely goes up
    wants_bonus: bool = False  # ask for the target's token after an accepted block (window 1 only)
    measures_risk: bool = False  # ask for the target's probability of skipped tokens
    audits: bool = False  # after the end, ask for those that no later draft measured
    window: int | None = 1  # drafts in flight; None: as many as pay
    block_length: int | None = None  # None: follows from measured times and rejections
    flushes: bool = True  # a token that the gate sends up takes what is held along at once
    experience: Experience = field(default_factory=Experience)  # what earlier texts have shown
    on_cloud_loss: OnCloudLoss = OnCloudLoss.FAIL
    cloud_timeout: float = 20.0
    first_timeout: float = 5.0
    min_timeout: float = 0.5
    max_timeout: float = 20.0
