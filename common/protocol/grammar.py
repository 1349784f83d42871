"""What an answer must match: a JSON schema, a regular expression or a Lark grammar. Pure.

Both ends forbid the same tokens with it (common.grammar), so the text follows the masked target's law. This
module only names a grammar; it does not know what the source means.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

MAX_GRAMMAR_BYTES = 64 * 1024  # of its source, in UTF-8
MAX_ENGINE_CHARS = 64
MAX_END_IDS = 64
DIGEST_BYTES = 16


class GrammarKind(StrEnum):
    """The languages that a grammar can be written in."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LARK = "lark"


@dataclass(frozen=True, slots=True)
class Grammar:
    """The source of a grammar; whether it compiles is known only where it is compiled."""

    kind: GrammarKind
    source: str

    @classmethod
    def json_schema(cls, schema: Mapping[str, object] | bool) -> "Grammar":
        """A grammar for JSON that fits a schema; `{"type": "object"}` is any JSON object."""
        return cls(GrammarKind.JSON_SCHEMA, json.dumps(schema, separators=(",", ":"), ensure_ascii=False))

    @classmethod
    def regex(cls, pattern: str) -> "Grammar":
        """A grammar for texts that match a regular expression from beginning to end."""
        return cls(GrammarKind.REGEX, pattern)

    @classmethod
    def lark(cls, source: str) -> "Grammar":
        """A grammar in llguidance's Lark syntax; its start rule is `start`."""
        return cls(GrammarKind.LARK, source)


@dataclass(frozen=True, slots=True)
class KnownGrammar:
    """A grammar that the worker probably holds, by the `digest` of an `AnswerGrammar`."""

    digest: bytes
    num_prompt: int
    end_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AnswerGrammar:
    """A grammar as an opening brings it; the answer begins after `num_prompt` tokens, and it with it.

    `engine` names what forbids tokens at the device, in its version. `end_ids` are the tokens that end an
    answer there, ascending, at least one.
    """

    grammar: Grammar
    engine: str
    num_prompt: int
    end_ids: tuple[int, ...]

    @property
    def digest(self) -> bytes:
        """What grammar and engine together are known by."""
        named = "\0".join((self.engine, self.grammar.kind.value, self.grammar.source))
        return hashlib.sha256(named.encode(errors="surrogatepass")).digest()[:DIGEST_BYTES]

    @property
    def briefly(self) -> KnownGrammar:
        """The same for a worker that holds it."""
        return KnownGrammar(self.digest, self.num_prompt, self.end_ids)
