"""Text on a terminal: each token coloured by where it came from."""

from edge_agent.generation import Token
from edge_agent.transcript import Fate

RESET = "\x1b[0m"
COLOURS = {
    Fate.LOCAL: "\x1b[37m",  # grey
    Fate.VERIFIED: "\x1b[32m",  # green
    Fate.CORRECTED: "\x1b[1;31m",  # bold red
    Fate.TARGET: "\x1b[36m",  # cyan
    Fate.UNVERIFIED: "\x1b[33m",  # yellow
}


def coloured(token: Token) -> str:
    """The token's text in the colour of its fate; line breaks stay outside, for terminals that fill lines."""
    return "\n".join(f"{COLOURS[token.fate]}{line}{RESET}" if line else "" for line in token.text.split("\n"))


def legend() -> str:
    """One line that explains the colours."""
    return "  ".join(f"{colour}{fate}{RESET}" for fate, colour in COLOURS.items())
