"""Tokens to text, one by one.

Law: what a stream has shown stays shown. A character is released only when all its bytes are there.
"""

from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # a decoder's output for bytes that are not a character, or not yet
_COMPLETE = (
    "ï¿½",
    "<0xEF><0xBF><0xBD>",
    _INCOMPLETE,
)  # that very character, as vocabularies spell it


class TextStream:
    """The pieces together are what decoding the whole adds to the prompt.

    A token is decoded together with those of the last piece, because decoders treat the first token of a
    text differently (they drop its space, for example).
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt: Sequence[int], specials: Mapping[int, str] | None = None
    ) -> None:
        """Start after `prompt`, whose own text is not returned; `specials` is `special_texts(tokenizer)`."""
        self._tokenizer = tokenizer
        self._specials = special_texts(tokenizer) if specials is None else specials
        self._window = list(prompt)  # the tokens of the last piece, then those still held back
        self._num_shown = len(self._window)
        self._shown = tokenizer.decode(self._window)
        if self._ends_incomplete(self._shown):
            self._shown = self._shown.rstrip(_INCOMPLETE)

    def __copy__(self) -> "TextStream":
        """An independent stream that continues from here."""
        twin = TextStream.__new__(TextStream)
        vars(twin).update(vars(self), _window=list(self._window))
        return twin

    def special(self, token: int) -> str:
        """The text of a special token, which `push` never returns; empty for any other token."""
        return self._specials.get(token, "")

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is incomplete."""
        self._window.append(token)
        text = self._tokenizer.decode(self._window)
        if len(text) <= len(self._shown) or self._ends_incomplete(text):
            return ""
        piece = text[len(self._shown) :]
        self._window = self._window[self._num_shown :]
        self._num_shown = len(self._window)
        self._shown = self._tokenizer.decode(self._window)
        return piece

    def flush(self) -> str:
        """What was held back, at the end: an incomplete character becomes a replacement character."""
        if len(self._window) == self._num_shown:
            return ""
        text = self._tokenizer.decode(self._window)
        piece, self._shown = text[len(self._shown) :], text
        return piece

    def _ends_incomplete(self, text: str) -> bool:
        """Whether `text`, the window's, ends in bytes that are not a character, or not yet.

        A decoder shows them as a replacement character. That very character, spelled out, is complete.
        """
        if not text.endswith(_INCOMPLETE):
            return False
        tail: list[str] = []
        for token in reversed(self._window):
            if token not in self._specials:
                tail.insert(0, self._tokenizer.id_to_token(token) or "")
            if len(tail) == 3:
                break
        return not "".join(tail).endswith(_COMPLETE)


def special_texts(tokenizer: Tokenizer) -> dict[int, str]:
    """The ids and texts of the tokens that decoding leaves out."""
    return {
        token: added.content for token, added in tokenizer.get_added_tokens_decoder().items() if added.special
    }
