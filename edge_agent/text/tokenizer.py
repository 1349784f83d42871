"""Text to tokens and back, including chat templates, with `tokenizers` alone.

Law: padding, truncation and templates are those of transformers, so that the tokens are the target's own.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypedDict, cast

from tokenizers import Tokenizer

from common.protocol.fingerprint import fingerprint
from edge_agent.errors import ModelError, PromptError
from edge_agent.text.chat_template import ChatTemplate
from edge_agent.text.stop_strings import StopStrings as StopStrings
from edge_agent.text.stream import TextStream as TextStream
from edge_agent.text.stream import special_texts
from edge_agent.text.typed_specials import TypedSpecials


class _Conversation(TypedDict):
    messages: Sequence[Mapping[str, object]]
    tools: Sequence[Mapping[str, object]] | None
    template_vars: Mapping[str, object] | None


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
        self._specials = special_texts(tokenizer)
        self._typed = TypedSpecials(tokenizer)
        self.vocab_size = max(vocabulary.values()) + 1
        self.fingerprint = fingerprint(vocabulary)

    @classmethod
    def load(cls, files: TextFiles) -> "Text":
        """Read tokenizer.json in the model's folder; raises ModelError when it is missing or broken."""
        tokenizer = load_tokenizer(files.folder / "tokenizer.json")
        template = ChatTemplate(files.chat_template, files.special_tokens) if files.chat_template else None
        return cls(tokenizer, template)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer itself, for grammars."""
        return self._tokenizer

    @property
    def has_chat_template(self) -> bool:
        """Whether `chat_prompt` works."""
        return self._template is not None

    def check_template_vars(self, names: Collection[str]) -> None:
        """Raise PromptError for the name of a variable that the chat template cannot be given."""
        if self._template is not None:
            self._template.check(names)

    def encode(self, prompt: str) -> list[int]:
        """Tokens of a raw prompt: the text of a special token is that token.

        The special tokens that the tokenizer itself adds are around them.
        """
        return self._tokenizer.encode(prompt).ids

    def encode_text(self, prompt: str) -> list[int]:
        """As `encode`, for a text that anyone may have typed: the text of a special token is only text."""
        marked, hidden = self._typed.hide(prompt)
        if not hidden:
            return self.encode(prompt)
        bare = self._tokenizer.encode("x", add_special_tokens=False).ids
        around = self.encode("x")
        start = next(i for i in range(len(around)) if around[i : i + len(bare)] == bare)
        return [*around[:start], *self._typed.encode(str(marked), hidden), *around[start + len(bare) :]]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`, without special tokens."""
        return self._tokenizer.decode(tokens)

    def chat_prompt(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        template_vars: Mapping[str, object] | None = None,
    ) -> list[int]:
        """Tokens of a conversation, ending where the assistant's answer begins.

        `messages` are {"role": ..., "content": ...}, `tools` JSON schemas, both as in OpenAI's API;
        `template_vars` are the template's variables. The text of a special token in them is only text.
        Raises PromptError when the model has no chat template or its template refuses them.
        """
        if self._template is None:
            raise PromptError("This model has no chat template: send a plain prompt, or choose a chat model.")
        self._template.check(template_vars or {})
        given, hidden = self._typed.hide(
            {"messages": messages, "tools": tools, "template_vars": template_vars}
        )
        if not hidden:
            rendered = self._template.render(messages, tools=tools, template_vars=template_vars)
            return self._tokenizer.encode(rendered, add_special_tokens=False).ids
        rendered = self._template.render(**cast("_Conversation", given))
        return self._typed.encode(rendered, hidden)

    def stream(self, prompt: Sequence[int]) -> "TextStream":
        """A decoder for the tokens that follow `prompt`."""
        return TextStream(self._tokenizer, prompt, self._specials)


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json; raises ModelError when it is missing or broken."""
    if not path.is_file():
        raise ModelError(f"There is no {path}: copy it from the model that was exported.")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more precise
        raise ModelError(f"{path} is not a tokenizer ({error}): copy or download it again.") from error
