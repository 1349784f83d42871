"""The draft tokens that wait to go up in one block, and how likely a rejection among them is. Pure."""

from dataclasses import dataclass, field

from common.protocol.messages import DraftToken
from edge_agent.policy.online_k import expected_rejection

LEAST_RISK = 0.001  # of a token that looks certain: about the rejection rate below the papers' threshold


@dataclass(slots=True)
class Block:
    """In order; `risk` is the expected number of rejections among them."""

    tokens: list[DraftToken] = field(default_factory=list[DraftToken])
    risk: float = 0.0

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, token: DraftToken, uncertainty: float) -> None:
        """Add a token at the end."""
        self.tokens.append(token)
        self.risk += LEAST_RISK + expected_rejection(uncertainty)

    def take(self) -> tuple[DraftToken, ...]:
        """Remove and return all of them."""
        taken = tuple(self.tokens)
        self.clear()
        return taken

    def clear(self) -> None:
        """Drop all of them."""
        self.tokens.clear()
        self.risk = 0.0
