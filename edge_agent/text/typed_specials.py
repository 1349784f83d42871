"""Special tokens that a user has typed: they stay text, and never become control ids.

Law: only a chat template writes special tokens. Messages come from keyboards, voice, MQTT or HTTP, and a text
that could end its turn or open another would speak for the system. Other messages are not touched.
"""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import cast

from tokenizers import AddedToken, Tokenizer

from edge_agent.errors import PromptError

_WORDS_OF_TEMPLATES = ("role", "type")  # templates may build special tokens from these, as in <|user|>


class TypedSpecials:
    """Finds the special tokens of one tokenizer in texts, and encodes texts that have them.

    `hide` puts a placeholder in the place of each, which a template handles like any other word. `encode`
    reads the rendered text with a second tokenizer. It shares the model of the first, and knows special
    tokens only under secret names, which it gives to those that the template wrote.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        added = tokenizer.get_added_tokens_decoder()
        self._tokenizer = tokenizer
        self._specials = {one.content: token for token, one in added.items() if one.special and one.content}
        by_length = sorted(self._specials, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, by_length)) or "(?!)")
        self._beginnings = {text[:length] for text in by_length for length in range(1, len(text))}
        self._longest = max(map(len, by_length), default=0)
        self._twin: _Twin | None = None

    def hide(self, value: object) -> tuple[object, "Hidden"]:
        """The plain JSON data `value` with placeholders, and what they stand for; empty if there are none.

        So that no special token comes about where two texts meet, its beginning at the end of a text is
        hidden too.
        """
        hidden = Hidden()
        return self._hide(value, hidden, is_open=True), hidden

    def _hide(self, value: object, hidden: "Hidden", *, is_open: bool) -> object:
        match value:
            case str():
                text = self._pattern.sub(lambda found: hidden.put(found[0]), value)
                return self._hide_beginning(text, hidden) if is_open else text
            case Mapping():
                fields = cast("Mapping[object, object]", value)
                return {
                    self._hide(key, hidden, is_open=False): self._hide(
                        one, hidden, is_open=key not in _WORDS_OF_TEMPLATES
                    )
                    for key, one in fields.items()
                }
            case list() | tuple():
                return [self._hide(one, hidden, is_open=is_open) for one in cast("Sequence[object]", value)]
            case _:
                return value

    def _hide_beginning(self, text: str, hidden: "Hidden") -> str:
        bare = text.rstrip()
        for length in range(min(self._longest - 1, len(bare)), 0, -1):
            if bare[-length:] in self._beginnings:
                return bare[:-length] + hidden.put(bare[-length:]) + text[len(bare) :]
        return text

    def encode(self, rendered: str, hidden: "Hidden") -> list[int]:
        """Tokens of a text with placeholders; PromptError if one can only be read as a control id."""
        twin = self._twin = self._twin or _Twin(self._tokenizer, self._specials)
        pattern = re.compile(f"{hidden.pattern}|{self._pattern.pattern}")

        def write(found: re.Match[str], spell: Callable[[str], str]) -> str:
            typed = hidden.get(found[0])
            return twin.names[found[0]] if typed is None else spell(typed)

        for spell in (str, twin.spell_apart):
            tokens = twin.encode(pattern.sub(partial(write, spell=spell), rendered))
            if tokens is not None:
                return tokens
        raise PromptError("the prompt has the text of a special token, which this model cannot read as text")


class Hidden:
    """Placeholders, which no one can foresee, and the texts they stand for."""

    def __init__(self) -> None:
        self._nonce = f"{secrets.randbelow(10**18):018d}"  # digits survive every filter of a template
        self._texts: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._texts)

    @property
    def pattern(self) -> str:
        """Matches a placeholder."""
        return self._nonce + r"\d{6}"

    def put(self, text: str) -> str:
        """A placeholder for `text`."""
        self._texts.append(text)
        return f"{self._nonce}{len(self._texts) - 1:06d}"

    def get(self, found: str) -> str | None:
        """The text of a placeholder; None for anything else."""
        return self._texts[int(found[-6:])] if found.startswith(self._nonce) else None


class _Twin:
    """The tokenizer, with secret names for its special tokens; `names` maps their texts to those."""

    def __init__(self, tokenizer: Tokenizer, specials: Mapping[str, int]) -> None:
        added = tokenizer.get_added_tokens_decoder()
        nonce = secrets.token_hex(16)
        self.names = {text: f"<{nonce}{token}>" for text, token in specials.items()}
        self._apart = f"<{nonce}>"  # stands for no token at all
        self._specials = frozenset(specials.values())
        self._tokenizer = Tokenizer(tokenizer.model)
        if tokenizer.normalizer is not None:
            self._tokenizer.normalizer = tokenizer.normalizer
        if tokenizer.pre_tokenizer is not None:
            self._tokenizer.pre_tokenizer = tokenizer.pre_tokenizer
        self._tokenizer.add_tokens(
            [one for _, one in sorted(added.items()) if not one.special]
            + [AddedToken(self._apart, normalized=False)]
            + [_named(added[token], self.names[text]) for text, token in specials.items()]
        )
        known = {name: specials[text] for text, name in self.names.items()} | {self._apart: None}
        self._ids = {
            token: known[one.content] if one.content in known else tokenizer.token_to_id(one.content)
            for token, one in self._tokenizer.get_added_tokens_decoder().items()
        }

    def spell_apart(self, text: str) -> str:
        """`text` in two parts that are encoded separately."""
        return text[:1] + self._apart + text[1:]

    def encode(self, text: str) -> list[int] | None:
        """Tokens of `text`, with ids as in the first tokenizer; None if plain text became a special token."""
        tokens = self._tokenizer.encode(text, add_special_tokens=False).ids
        if any(token in self._specials and token not in self._ids for token in tokens):
            return None
        ids = [self._ids.get(token, token) for token in tokens]
        return [token for token in ids if token is not None]


def _named(special: AddedToken, name: str) -> AddedToken:
    return AddedToken(name, lstrip=special.lstrip, rstrip=special.rstrip, normalized=False)
