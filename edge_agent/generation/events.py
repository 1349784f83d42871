"""What an app sees of a generation: final tokens, and tokens shown before they are verified. Pure values.

shown = texts of the Tokens + texts of the Tentatives that are neither confirmed nor retracted
"""

from dataclasses import dataclass
from typing import TypeAlias

from edge_agent.session.transcript import Fate


@dataclass(frozen=True, slots=True)
class Token:
    """A final token with the text that it completes: "" while a character lacks bytes.

    It confirms the oldest `Tentative`, if there is one. The last `Token` may be text without a token (None):
    text that was held back because a stop string might have begun there.
    """

    text: str
    token: int | None
    fate: Fate


@dataclass(frozen=True, slots=True)
class Tentative:
    """A token drafted after all that is shown, and the text that it completes if it is accepted."""

    text: str
    token: int


@dataclass(frozen=True, slots=True)
class Retraction:
    """The last `num_tokens` tentative tokens are taken back, and `text`, the end of what is shown."""

    text: str
    num_tokens: int


Emitted: TypeAlias = Token | Tentative | Retraction
