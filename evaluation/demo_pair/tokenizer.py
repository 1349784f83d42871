"""The tokenizer of both models: byte-level BPE, learned from training commands.

Law: every text can be encoded, since all 256 bytes are in the vocabulary. Numbers are split into digits, so
that a model can copy a number it has never seen.
"""

from random import Random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from evaluation.smart_home import prompt_text, reply_text, training_command
from evaluation.smart_home.chat import ASSISTANT, CHAT_TEMPLATE, END, PADDING, USER

SPECIAL_TOKENS = (PADDING, USER, ASSISTANT, END)
PADDING_TOKEN = SPECIAL_TOKENS.index(PADDING)
END_TOKEN = SPECIAL_TOKENS.index(END)
VOCABULARY = 1280
NUM_COMMANDS = 40_000


def train_tokenizer(seed: int) -> Tokenizer:
    """Learn the merges from the texts of `NUM_COMMANDS` training commands."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = Random(f"tokenizer {seed}")
    commands = (training_command(rng) for _ in range(NUM_COMMANDS))
    tokenizer.train_from_iterator((prompt_text(each.text) + reply_text(each) for each in commands), trainer)
    return tokenizer


def wrapped_tokenizer(tokenizer: Tokenizer, max_positions: int) -> PreTrainedTokenizerFast:
    """Wrap the tokenizer for transformers, with the chat template."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PADDING,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=max_positions,
        clean_up_tokenization_spaces=False,
    )
