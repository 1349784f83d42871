"""Text to tokens and back, including chat templates, with `tokenizers` alone.

Law: what a stream has shown stays shown. `TextStream` releases a character only when all its bytes are there,
and `StopStrings` only when it can no longer begin a stop string.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from common.protocol.fingerprint import fingerprint
from edge_agent.errors import ModelError, PromptError
from edge_agent.text.chat_template import ChatTemplate

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # a decoder's output for bytes that are not a character, or not yet


class TextFiles(Protocol):
    """What `Text.load` needs to know of a model's folder; `ModelInfo` has it."""

    @property
    def folder(self) -> Path:
        """Where tokenizer.json is."""
        ...

    @property
    def chat_template(self) -> str | None:
        """The template's source, if the model has one."""
        ...

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """The names a chat template knows (bos_token, eos_token, ...), and their strings."""
        ...


class Text:
    """The tokenizer of one model. `vocab_size` is the largest id + 1; `fingerprint` identifies it."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None = None) -> None:
        """Use `tokenizer`, and switch its padding and truncation off."""
        tokenizer.no_padding()
        tokenizer.no_truncation()
        vocabulary = tokenizer.get_vocab()
        self._tokenizer = tokenizer
        self._template = template
        self.vocab_size = max(vocabulary.values()) + 1
        self.fingerprint = fingerprint(vocabulary)

    @classmethod
    def load(cls, files: TextFiles) -> "Text":
        """Read tokenizer.json in the model's folder; raises ModelError when it is missing or broken."""
        tokenizer = load_tokenizer(files.folder / "tokenizer.json")
        template = ChatTemplate(files.chat_template, files.special_tokens) if files.chat_template else None
        return cls(tokenizer, template)

    @property
    def has_chat_template(self) -> bool:
        """Whether `chat_prompt` works."""
        return self._template is not None

    def encode(self, prompt: str) -> list[int]:
        """Tokens of a plain prompt, with the special tokens that the tokenizer itself adds."""
        return self._tokenizer.encode(prompt).ids

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`, without special tokens."""
        return self._tokenizer.decode(tokens)

    def chat_prompt(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
    ) -> list[int]:
        """Tokens of a conversation, ending where the assistant's answer begins.

        `messages` are {"role": ..., "content": ...}, `tools` JSON schemas, both as in OpenAI's API. Raises
        PromptError when the model has no chat template or its template refuses them.
        """
        if self._template is None:
            raise PromptError("This model has no chat template: send a plain prompt, or choose a chat model.")
        rendered = self._template.render(messages, tools=tools)
        return self._tokenizer.encode(rendered, add_special_tokens=False).ids

    def stream(self, prompt: Sequence[int]) -> "TextStream":
        """A decoder for the tokens that follow `prompt`."""
        return TextStream(self._tokenizer, prompt)


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json; raises ModelError when it is missing or broken."""
    if not path.is_file():
        raise ModelError(f"There is no {path}: copy it from the model that was exported.")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more precise
        raise ModelError(f"{path} is not a tokenizer ({error}): copy or download it again.") from error


class TextStream:
    """Tokens to text, one by one: the pieces together are what decoding the whole adds to the prompt.

    A token is decoded together with those of the last piece, because decoders treat the first token of a
    text differently (they drop its space, for example).
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        """Start after `prompt`, whose own text is not returned."""
        self._tokenizer = tokenizer
        self._window = list(prompt)  # the tokens of the last piece, then those still held back
        self._num_shown = len(self._window)
        self._shown = tokenizer.decode(self._window).rstrip(_INCOMPLETE)

    def __copy__(self) -> "TextStream":
        """An independent stream that continues from here."""
        twin = TextStream.__new__(TextStream)
        vars(twin).update(vars(self), _window=list(self._window))
        return twin

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is incomplete."""
        self._window.append(token)
        text = self._tokenizer.decode(self._window)
        if text.endswith(_INCOMPLETE) or len(text) <= len(self._shown):
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


class StopStrings:
    """Cuts a stream of text before the first stop string, however the text is split into pieces.

    Only the longest end that may still become a stop string is held back. The stop string that is complete
    first wins, and of two that end together the longer one.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Stop at any of `stops`; empty ones are ignored, and without any the text passes through."""
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The part of the text so far that may be shown now; empty once `stopped`."""
        if self.stopped:
            return ""
        self._held += text
        found = [(start + len(stop), start) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)[1]], ""
            return shown
        split = len(self._held) - self._num_open()
        shown, self._held = self._held[:split], self._held[split:]
        return shown

    def flush(self) -> str:
        """What was held back, at the end of the text."""
        shown, self._held = self._held, ""
        return shown

    def _num_open(self) -> int:
        """The length of the longest end of the held text that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
