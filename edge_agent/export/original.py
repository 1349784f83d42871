"""The original model in torch: the texts that it writes, and its float32 logits.

Law: weights stay in the type that they are stored in, and are float32 only while they compute. So the model
takes its own size and that of a matrix, not twice its size, and its logits are those of a float32 model.
"""

import contextlib
import inspect
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.errors import ModelError
from edge_agent.export.graphs import one_line

if TYPE_CHECKING:
    import torch
    from torch.utils.hooks import RemovableHandle

MAX_PROMPT_TOKENS = 128
_BATCH = 32  # texts that are written at once


class Original:
    """A causal language model of transformers, and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Wrap a loaded model."""
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def load(cls, source: Path) -> "Original":
        """Load the model in folder `source`; raises ModelError if there is none."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            model = AutoModelForCausalLM.from_pretrained(source, dtype="auto").eval()
            return cls(model.requires_grad_(False), AutoTokenizer.from_pretrained(source))
        except Exception as error:  # every architecture fails in its own way
            raise ModelError(
                f"transformers cannot load the model in {source} ({one_line(error)})."
            ) from error

    def answers(self, prompts: Sequence[str], num_tokens: int, seed: int) -> list[tuple[list[int], int]]:
        """The tokens of each prompt with an answer sampled at temperature 1, and the prompt's length."""
        import torch

        asked = [list(self.tokenizer(prompt)["input_ids"])[:MAX_PROMPT_TOKENS] for prompt in prompts]
        texts: list[tuple[list[int], int]] = []
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            for start in range(0, len(asked), _BATCH):
                batch = asked[start : start + _BATCH]
                longest = max(map(len, batch))
                padding = [longest - len(prompt) for prompt in batch]
                tokens = self.model.generate(
                    torch.tensor([[0] * pad + prompt for pad, prompt in zip(padding, batch, strict=True)]),
                    attention_mask=torch.tensor([[0] * pad + [1] * (longest - pad) for pad in padding]),
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    repetition_penalty=1.0,
                    min_new_tokens=num_tokens,
                    max_new_tokens=num_tokens,
                    pad_token_id=0,
                )
                for pad, row in zip(padding, tokens.tolist(), strict=True):
                    texts.append((row[pad:], longest - pad))
        return texts

    def logits(self, tokens: Sequence[int], num_last: int) -> "torch.Tensor":
        """The float32 logits [num_last, vocabulary] of the last positions."""
        import torch

        kept = {"logits_to_keep": num_last} if _takes(self.model.forward, "logits_to_keep") else {}
        with torch.no_grad(), in_float32(self.model):
            logits = self.model(torch.tensor([list(tokens)]), use_cache=False, **kept).logits
        return logits[0, -num_last:].float()


@contextlib.contextmanager
def in_float32(model: "torch.nn.Module") -> Generator[None]:
    """Compute in float32 within the block: a module's own weights are converted while it runs."""
    import torch

    halves = (torch.bfloat16, torch.float16)
    handles: list[Any] = []
    for module in model.modules():
        own = [weight for weight in module.parameters(recurse=False) if weight.dtype in halves]
        if own and isinstance(module, torch.nn.Embedding):
            handles.append(module.register_forward_hook(_in_float32))
        elif own:
            handles.extend(_converted_while_running(module, own))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _in_float32(_module: object, _inputs: object, output: "torch.Tensor") -> "torch.Tensor":
    return output.float()


def _converted_while_running(
    module: "torch.nn.Module", weights: "Sequence[torch.nn.Parameter]"
) -> "Generator[RemovableHandle]":
    stored = [weight.data for weight in weights]

    def convert(*_: object) -> None:
        for weight, data in zip(weights, stored, strict=True):
            weight.data = data.float()

    def restore(*_: object) -> None:
        for weight, data in zip(weights, stored, strict=True):
            weight.data = data

    yield module.register_forward_pre_hook(convert)
    yield module.register_forward_hook(restore, always_call=True)


def _takes(function: Any, name: str) -> bool:
    return name in inspect.signature(function).parameters
