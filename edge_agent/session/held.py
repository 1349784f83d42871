"""The draft tokens that wait to go up, and how likely a rejection among them is. Pure.

    tokens  | in flight | held piece | skipped | held piece |

Law: a token is held where it stands in the text. Skipped tokens between held ones divide them into pieces;
each piece goes up as a draft of its own, with what was skipped before it as context.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from common.protocol.limits import MAX_BLOCK_TOKENS
from common.protocol.messages import DraftToken

MAX_RISK = 0.9  # of one token: no estimate is surer than that


@dataclass(slots=True)
class Piece:
    """Tokens from position `start` on, without a gap.

    `risk` is the expected number of rejections, and exp(-`hazard`) the probability that there is none.
    """

    start: int
    tokens: list[DraftToken] = field(default_factory=list[DraftToken])
    risk: float = 0.0
    hazard: float = 0.0

    @property
    def end(self) -> int:
        """The position after the last token."""
        return self.start + len(self.tokens)


@dataclass(slots=True)
class Held:
    """Pieces in order of position."""

    pieces: list[Piece] = field(default_factory=list[Piece])

    def __len__(self) -> int:
        return sum(len(piece.tokens) for piece in self.pieces)

    @property
    def hazard(self) -> float:
        """-log of the probability that none of them is rejected."""
        return sum(piece.hazard for piece in self.pieces)

    @property
    def start(self) -> int | None:
        """The position of the first token; None when nothing is held."""
        return self.pieces[0].start if self.pieces else None

    @property
    def end(self) -> int | None:
        """The position after the last token; None when nothing is held."""
        return self.pieces[-1].end if self.pieces else None

    def bridge(self, tokens: Sequence[DraftToken]) -> None:
        """Let the last piece have these tokens after its own, if they and one more fit; they bear no risk."""
        if len(self.pieces[-1].tokens) + len(tokens) < MAX_BLOCK_TOKENS:
            self.pieces[-1].tokens += tokens

    def add(self, position: int, token: DraftToken, risk: float = 0.0) -> None:
        """Add the token at `position`, which is behind all others."""
        if not self.pieces or self.pieces[-1].end != position:
            self.pieces.append(Piece(position))
        self.pieces[-1].tokens.append(token)
        self.pieces[-1].risk += risk
        self.pieces[-1].hazard -= math.log1p(-min(risk, MAX_RISK))

    def take(self) -> list[Piece]:
        """Remove and return all of them."""
        taken, self.pieces = self.pieces, []
        return taken

    def cut(self, length: int) -> None:
        """Drop the tokens from position `length` on."""
        self.pieces = [piece for piece in self.pieces if piece.start < length]
        if self.pieces:
            del self.pieces[-1].tokens[length - self.pieces[-1].start :]

    def clear(self) -> None:
        """Drop all of them."""
        self.pieces.clear()
