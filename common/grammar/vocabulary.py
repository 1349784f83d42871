"""The bytes of each token, and the tokens of a text, from the tokenizer that is loaded already.

Law: what a text is tokenised to has the text's bytes and no special token, so a grammar that spells out a
special token's text never forces the token itself.
"""

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from tokenizers import Tokenizer

from common.grammar.errors import UnusableGrammarError

PROBE = (
    '{"name":"get_temperature","arguments":{"room":"living room","value":-21.5,"unit":null,"on":true}}\n'
    "[1, 20, 300]\t<tool_call>\r\n</tool_call> It's 7:05; d'accord, naïve façade, Straße. 今日は 🙂 \\u00e9"
)
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Vocabulary:
    """`tokens` [size] are bytes, empty where there is no such id; `specials` never occur as text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Raises UnusableGrammarError if the tokens of this tokenizer are not bytes."""
        ids = tokenizer.get_vocab()
        added = tokenizer.get_added_tokens_decoder()
        spelled = _Spelling(tokenizer)
        self.size = max(ids.values()) + 1
        self.tokens = [b""] * self.size
        for token, index in ids.items():
            self.tokens[index] = token.encode() if index in added else spelled.bytes(token)
        self.specials = sorted(added)
        self._tokenizer = tokenizer
        texts = sorted({one.content for one in added.values() if one.content}, key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, texts))) if texts else None
        self._special_ids = frozenset(added)

    @property
    def checksum(self) -> int:
        """CRC-32 over what a grammar sees of the tokenizer: both ends must have the same."""
        check = 0
        for token in self.tokens:
            check = zlib.crc32(len(token).to_bytes(4, "little") + token, check)
        for ids in (self.specials, self.encode(PROBE) or ()):
            check = zlib.crc32(b"".join(one.to_bytes(4, "little") for one in (len(ids), *ids)), check)
        return check

    def encode(self, text: str) -> list[int] | None:
        """The tokens of `text`; None if the tokenizer changes it, as some do with its beginning."""
        ids = self._encode(text)
        if not self._special_ids.isdisjoint(ids):
            ids = [token for piece in self._broken(text) for token in self._encode(piece)]
        is_same = b"".join(self.tokens[token] for token in ids) == text.encode()
        return ids if is_same and self._special_ids.isdisjoint(ids) else None

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _broken(self, text: str) -> list[str]:
        """`text` in pieces, none of which has the whole text of an added token."""
        if self._added is None:
            return [text]
        pieces: list[str] = []
        begin = 0
        for found in self._added.finditer(text):
            pieces.append(text[begin : found.start() + 1])
            begin = found.start() + 1
        return [*pieces, text[begin:]]


class _Spelling:
    """How the vocabulary writes bytes, by the tokenizer's decoder."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        kinds = _decoders(tokenizer)
        self._byte_of: Mapping[str, int] | None = None
        self._space = " "
        if any(one["type"] == "ByteLevel" for one in kinds):
            self._byte_of = _byte_level()
        elif any(one["type"] == "ByteFallback" for one in kinds):
            self._space = next(map(_space, filter(_is_space, kinds)), " ")
        else:
            raise UnusableGrammarError("the tokens of this tokenizer are not bytes, which a grammar needs")

    def bytes(self, token: str) -> bytes:
        if self._byte_of is not None:
            found = [self._byte_of.get(char) for char in token]
            return bytes(one for one in found if one is not None) if None not in found else b""
        byte = _BYTE.fullmatch(token)
        return bytes.fromhex(byte[1]) if byte else token.replace(self._space, " ").encode()


def _decoders(tokenizer: Tokenizer) -> Sequence[Mapping[str, Any]]:
    decoder = tokenizer.decoder
    if decoder is None:
        return []
    state = cast(dict[str, Any], json.loads(decoder.__getstate__()))
    return state["decoders"] if state["type"] == "Sequence" else [state]


def _is_space(decoder: Mapping[str, Any]) -> bool:
    is_replace = decoder["type"] == "Replace" and decoder["content"] == " "
    return decoder["type"] == "Metaspace" or (is_replace and "String" in decoder["pattern"])


def _space(decoder: Mapping[str, Any]) -> str:
    return decoder["replacement"] if decoder["type"] == "Metaspace" else decoder["pattern"]["String"]


def _byte_level() -> dict[str, int]:
    """The characters that GPT-2's byte-level vocabularies write bytes with."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
