"""How texts were drafted, token by token: plain values, and their file. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Records: TypeAlias = Mapping[str, Mapping[str, Sequence["Record"]]]  # by scheme, then by kind of prompt


@dataclass(frozen=True, slots=True)
class Recorded:
    """One token's draft: its uncertainty, and whether it stands in the text or was rejected."""

    uncertainty: float
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Record:
    """One text: the length of its prompt, and its tokens."""

    num_prompt: int
    tokens: tuple[Recorded, ...]

    @property
    def described(self) -> str:
        """Its length and its share of rejections, in words."""
        num_rejected = sum(not one.is_kept for one in self.tokens)
        return f"{len(self.tokens)} tokens, {num_rejected / max(1, len(self.tokens)):.0%} rejected"


def to_json(records: Records) -> str:
    """One line per text; a negative number stands for a rejection (-1 - uncertainty)."""
    plain = {
        scheme: {
            kind: [[one.num_prompt, [_number(token) for token in one.tokens]] for one in texts]
            for kind, texts in kinds.items()
        }
        for scheme, kinds in records.items()
    }
    return json.dumps(plain).replace("]], ", "]],\n ") + "\n"


def from_json(text: str) -> Records:
    """Read what `to_json` wrote."""
    return {
        scheme: {
            kind: [Record(num_prompt, tuple(map(_recorded, numbers))) for num_prompt, numbers in texts]
            for kind, texts in kinds.items()
        }
        for scheme, kinds in json.loads(text).items()
    }


def without_drafts(texts: Sequence[Record]) -> list[Record]:
    """Return texts as long, written by the target model alone."""
    return [Record(one.num_prompt, (Recorded(0.0, True),) * len(one.tokens)) for one in texts]


def _number(token: Recorded) -> float:
    return token.uncertainty if token.is_kept else round(-1 - token.uncertainty, 4)


def _recorded(number: float) -> Recorded:
    return Recorded(number, True) if number >= 0 else Recorded(-1 - number, False)
