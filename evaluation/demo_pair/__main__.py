"""Train, write and measure the demo pair.

    python -m evaluation.demo_pair

The steps: data, tokenizer, target model, draft model, files, report. Finished steps are kept in the work
folder; run the command again to resume. Law: equal seeds and sizes give the same data, tokenizer and held-out
commands, and the same weights up to the machine's rounding.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from common.process.paths import path_flag
from evaluation.demo_pair.measuring import agreement, replies, share_right
from evaluation.demo_pair.shapes import DRAFT, MAX_POSITIONS, TARGET, Shape, llama_config
from evaluation.demo_pair.tokenizer import train_tokenizer, wrapped_tokenizer
from evaluation.demo_pair.training import train
from evaluation.demo_pair.writing import write_held_out, write_onnx, write_torch
from evaluation.help_format import command_parser
from evaluation.reporting.results import CHECKOUT
from evaluation.smart_home import Command, held_out_commands

NUM_PUBLISHED = 200
PUBLISHED_SEED = 1
MEASURED_SEED = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the pair, write its files and report on them."""
    options = _parser().parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(options.work / "tokenizer.json", options.seed)
    target = _trained("target", replace(TARGET, steps=options.target_steps), tokenizer, options)
    draft = _trained("draft", replace(DRAFT, steps=options.draft_steps), tokenizer, options)
    _write(target, draft, tokenizer, options)
    _measure(options)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("evaluation.demo_pair", __doc__)
    parser.add_argument(
        "--out",
        type=path_flag,
        default=CHECKOUT or Path.cwd(),
        help="folder for edge_agent/demo_model and the other files (default: the checkout, else this folder)",
    )
    parser.add_argument(
        "--work",
        type=path_flag,
        default=Path(tempfile.gettempdir()) / "demo-pair",
        help="folder for checkpoints",
    )
    parser.add_argument("--target-steps", type=int, default=TARGET.steps, help="steps of the target model")
    parser.add_argument("--draft-steps", type=int, default=DRAFT.steps, help="steps of the draft model")
    parser.add_argument("--threads", type=int, default=2, help="threads that share each batch")
    parser.add_argument("--seed", type=int, default=0, help="seed of data and weights")
    parser.add_argument("--num-measured", type=int, default=1000, help="held-out commands in the report")
    return parser


def _tokenizer(path: Path, seed: int) -> Tokenizer:
    if not path.exists():
        train_tokenizer(seed).save(str(path))
    return Tokenizer.from_file(str(path))


def _trained(name: str, shape: Shape, tokenizer: Tokenizer, options: argparse.Namespace) -> LlamaForCausalLM:
    torch.manual_seed(options.seed)
    model = LlamaForCausalLM(llama_config(shape, tokenizer.get_vocab_size()))
    model.set_attn_implementation("eager")  # its backward pass is 1.7 times faster on a CPU at these lengths
    print(f"{name}: {sum(each.numel() for each in model.parameters()):,} parameters", flush=True)
    progress = train(
        model,
        shape,
        tokenizer,
        seed=options.seed,
        num_threads=options.threads,
        checkpoint=options.work / f"{name}.pt",
        report=lambda line: print(f"{name}: {line}", flush=True),
    )
    print(f"{name}: {progress.step} steps in {progress.seconds / 60:.1f} minutes", flush=True)
    return model.eval()


def _write(
    target: LlamaForCausalLM, draft: LlamaForCausalLM, tokenizer: Tokenizer, options: argparse.Namespace
) -> None:
    wrapped = wrapped_tokenizer(tokenizer, MAX_POSITIONS)
    write_torch(target, wrapped, _target_folder(options), torch.bfloat16)
    write_torch(draft, wrapped, _draft_source(options), torch.float32)
    print(write_onnx(_draft_source(options), _draft_folder(options)))
    published = held_out_commands(NUM_PUBLISHED, PUBLISHED_SEED)
    write_held_out(
        options.out / "evaluation" / "smart_home" / "held_out.jsonl", [_line(each) for each in published]
    )


def _target_folder(options: argparse.Namespace) -> Path:
    return options.out / "cloud_worker" / "demo_model"


def _draft_folder(options: argparse.Namespace) -> Path:
    return options.out / "edge_agent" / "demo_model"


def _draft_source(options: argparse.Namespace) -> Path:
    return options.work / "draft"


def _line(command: Command) -> dict[str, object]:
    actions = [action.to_dict() for action in command.actions]
    return {"command": command.text, "actions": actions, "answer": command.answer}


def _measure(options: argparse.Namespace) -> None:
    """Load what was written, and report on held-out commands that no choice was based on."""
    tokenizer = Tokenizer.from_file(str(_target_folder(options) / "tokenizer.json"))
    commands = held_out_commands(options.num_measured, MEASURED_SEED)
    pair = {
        name: _loaded(folder)
        for name, folder in (("target", _target_folder(options)), ("draft", _draft_source(options)))
    }
    for name, model in pair.items():
        for temperature in (0.0, 1.0):
            found = replies(model, tokenizer, commands, temperature, seed=options.seed)
            print(
                f"{name}, temperature {temperature:g}: {share_right(found, commands):.1%} exact match",
                flush=True,
            )
    print(agreement(pair["draft"], pair["target"], tokenizer, commands))


def _loaded(folder: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


if __name__ == "__main__":
    main()
