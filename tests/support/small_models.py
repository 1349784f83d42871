"""Small random models with a real tokenizer: Hugging Face folders, and their ONNX exports, in seconds.

Law: everything is a function of the family's name, so two processes build the same bytes. A family is a
*target*; its *twin* is the same model in ONNX; its *draft* is the target with noise on its weights, in ONNX
(and in torch, to compare with), so that the target accepts some of what it drafts and not all.
"""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from edge_agent.export import export

FAMILIES = ("llama", "qwen3", "gpt2")
VOCAB_SIZE = 384
MAX_POSITIONS = 512
BOS, EOS, USER, ASSISTANT = "<s>", "</s>", "<|user|>", "<|assistant|>"
INIT_STD = 0.2  # ten times the usual, so that the context matters
SHARPNESS = 3.0  # on the last norm: the logits are peaked as a trained model's are, about 1.5 nats
NOISE = 0.04  # of each weight's own spread

CORPUS = (
    "The kitchen window is open, and the temperature outside has fallen to four degrees.",
    "Turn off the lights in the living room when nobody is at home.",
    "What is the temperature in the kitchen? It is twenty-one degrees in the kitchen.",
    "The battery of the sensor in the garden is at 12 %, please change it this week.",
    "Öffne das Fenster im Schlafzimmer, wenn es draußen kühler ist als drinnen.",
    "Il fait 21 °C dans la cuisine; la fenêtre est fermée. 今日は晴れです。 🙂 🌡️",
    "for sensor in sensors: print(sensor.name, sensor.value)",
)
CHAT_TEMPLATE = """{{ bos_token }}{% for message in messages %}
{% if message['role'] == 'user' %}
<|user|>{{ message['content'] | trim }}{% elif message['role'] == 'assistant' %}
<|assistant|>{{ message['content'] }}{{ eos_token }}{% else %}
{{ raise_exception('only user and assistant speak here') }}{% endif %}
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""

FolderOf = Callable[[str], Path]  # family name -> folder of one form of its model


class SmallModels:
    """The folders of all families under `root`, each built when first asked for."""

    def __init__(self, root: Path) -> None:
        """Build below `root`, which several processes may share."""
        self._root = root

    def target(self, family: str) -> Path:
        """The target model in torch, as save_pretrained writes it."""
        return self._built(family, lambda folder: save(make_model(family), folder))

    def twin(self, family: str) -> Path:
        """The target model in ONNX, fp32."""
        source = self.target(family)
        return self._built(f"{family}-twin", lambda folder: export_fp32(source, folder))

    def draft_in_torch(self, family: str) -> Path:
        """The draft model in torch."""
        return self._built(f"{family}-draft-in-torch", lambda folder: save(make_draft(family), folder))

    def draft(self, family: str) -> Path:
        """The draft model in ONNX, fp32."""
        source = self.draft_in_torch(family)
        return self._built(f"{family}-draft", lambda folder: export_fp32(source, folder))

    def _built(self, name: str, build: Callable[[Path], None]) -> Path:
        folder = self._root / name
        with FileLock(self._root / f"{name}.lock"):
            if not (folder / "done").exists():
                build(folder)
                (folder / "done").touch()
        return folder


def make_tokenizer() -> Tokenizer:
    """A byte-level BPE of `VOCAB_SIZE` tokens that puts BOS in front of a plain prompt."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[BOS, EOS, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def make_model(family: str) -> PreTrainedModel:
    """The target of a family, with random weights."""
    torch.manual_seed(zlib.crc32(family.encode()))
    model = _random_model(family)
    last_norm = model.get_parameter("transformer.ln_f.weight" if family == "gpt2" else "model.norm.weight")
    with torch.no_grad():
        last_norm *= SHARPNESS
    return model.eval()


def _random_model(family: str) -> PreTrainedModel:
    ids = {"vocab_size": VOCAB_SIZE, "bos_token_id": 0, "eos_token_id": 1, "initializer_range": INIT_STD}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "num_hidden_layers": 2}
    sizes = {"hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": MAX_POSITIONS}
    if family == "wide":  # not among FAMILIES: a llama with heads as large as vLLM needs on a CPU
        return LlamaForCausalLM(LlamaConfig.from_dict(ids | heads | sizes | {"head_dim": 32}))
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig.from_dict(ids | heads | sizes))
    if family == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config.from_dict(ids | heads | sizes | {"tie_word_embeddings": True}))
    if family == "gpt2":
        widths = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": MAX_POSITIONS}
        return GPT2LMHeadModel(GPT2Config.from_dict(ids | widths))
    raise ValueError(f"There is no family '{family}', only {FAMILIES}.")


def make_draft(family: str) -> PreTrainedModel:
    """The target with noise on every matrix."""
    model = make_model(family)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight += NOISE * weight.std() * torch.randn(weight.shape, generator=generator)
    return model


def save(model: PreTrainedModel, folder: Path) -> None:
    """The model with the tokenizer of all families, as transformers reads it."""
    model.save_pretrained(folder)
    make_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def export_fp32(source: Path, folder: Path) -> None:
    """The ONNX form of the model in `source`."""
    export(str(source), folder, "fp32", num_threads=1)
