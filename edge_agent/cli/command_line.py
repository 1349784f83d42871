"""`edge-agent`: the command line."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.process.interrupt import INTERRUPTED, interrupts_raised
from common.process.log import configure_logging, printable
from common.process.paths import path_flag
from common.process.settings import CommandLine, SettingsError, add_flags, load, with_flags
from edge_agent.cli.formats import add_formats, grammar_given
from edge_agent.config import ENV_PREFIX, AgentConfig
from edge_agent.errors import AgentError, ConfigError
from edge_agent.policy.schemes import SCHEMES


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0: done, 1: failed, 2: wrong usage, 130: interrupted)."""
    _replace_unencodable()
    flags = _parser().parse_args(arguments)
    try:
        return _WITHOUT_SETTINGS.get(flags.command, _with_settings)(flags)
    except (SettingsError, ConfigError) as error:
        return _complain(str(error), 2)
    except AgentError as error:
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except OSError as error:  # of the output: all others become an AgentError where they arise
        _drop_output()
        return _complain(f"cannot write the answer ({error.strerror})", 1)


def _parser() -> argparse.ArgumentParser:
    settings = (
        f"Every setting is a flag, an environment variable ({ENV_PREFIX}NAME) and a key of the TOML file."
    )
    schemes = "\n".join(f"  {scheme.name:15} {scheme.summary}" for scheme in SCHEMES.values())
    parser = CommandLine(
        prog="edge-agent",
        description="Drafts text with a small model on this device, and asks a large model in the\n"
        "cloud, over MQTT, only where the small one is uncertain.",
        epilog=f"schemes:\n{schemes}\n\n{settings}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_generate(commands.add_parser("generate", help="answer a prompt", description=settings))
    _add_chat(commands.add_parser("chat", help="talk to the model", description=settings))
    _add_serve(
        commands.add_parser(
            "serve",
            help="answer apps: a page, OpenAI's and Ollama's APIs, MQTT",
            description=f"Answers until SIGTERM or Ctrl-C. {settings}",
        )
    )
    _add_doctor(
        commands.add_parser(
            "doctor",
            help="examine this device, the model, the broker and the pool",
            description="Shows what the agent finds with these settings, and what to change. The exit code "
            "is 0 if it can answer, otherwise 1. It asks a worker for one short answer, in the name of this "
            "device: where the broker admits one program per account, that disconnects a running agent.",
        )
    )
    _add_pull(
        commands.add_parser(
            "pull",
            help="download a draft model from the Hugging Face hub",
            description="Downloads one graph with its weights and settings, shows progress, continues an "
            "interrupted download, and verifies checksums. Prints the folder.",
        )
    )
    _add_bundle(
        commands.add_parser(
            "bundle",
            help="pack programs, model and settings for a device without a network",
            description="Writes a tar file for `install-agent --from`. Run it on a machine with a network.",
        )
    )
    _add_export(
        commands.add_parser(
            "export",
            help="make an ONNX draft model (needs the extra 'export')",
            description="Writes a folder for --model, and checks it against torch.",
        )
    )
    return parser


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [OPTIONS] (PROMPT | - | -f FILE)"
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("prompt", nargs="?", help="the prompt; - reads it from standard input")
    asked.add_argument("-f", "--file", type=path_flag, metavar="FILE", help="read the prompt from a file")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--lines", action="store_true", help="the input has one prompt per line")
    form.add_argument(
        "--jsonl",
        action="store_true",
        help="the input has one prompt per line in JSON: a text, or an object with prompt or messages, and "
        "optionally system, template_vars, seed, id and json_schema, regex or lark",
    )
    add_formats(parser)
    _add_output(parser, has_json=True)
    add_flags(parser, AgentConfig, ENV_PREFIX)


def _add_chat(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [OPTIONS]"
    _add_output(parser, has_json=False)
    add_flags(parser, AgentConfig, ENV_PREFIX)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [OPTIONS]"
    add_flags(parser, AgentConfig, ENV_PREFIX)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [OPTIONS]"
    parser.add_argument("--json", action="store_true", help="print a JSON object with findings and facts")
    add_flags(parser, AgentConfig, ENV_PREFIX)


def _add_output(parser: argparse.ArgumentParser, *, has_json: bool) -> None:
    output = parser.add_argument_group("output")
    output.add_argument("--quiet", action="store_true", help="print no summary")
    output.add_argument("--show-tokens", action="store_true", help="colour each token by where it came from")
    output.add_argument(
        "--tentative", action="store_true", help="on a terminal: show tokens dim before they are verified"
    )
    if has_json:
        output.add_argument(
            "--json", action="store_true", help="print one JSON object per prompt, nothing else"
        )
        output.add_argument(
            "--json-events", action="store_true", help="as --json, with an object for each token before it"
        )


def _add_pull(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a hub name, such as onnx-community/SmolLM2-135M-Instruct-ONNX")
    parser.add_argument(
        "--to",
        type=path_flag,
        metavar="FOLDER",
        help="write plain files into this folder (default: the hub's cache, where --model NAME finds them)",
    )
    parser.add_argument("--model-file", metavar="FILE", help="the ONNX file, if the repository has several")
    parser.add_argument("--revision", metavar="TEXT", help="a branch, tag or commit of the repository")


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=path_flag, help="the tar file to write")
    parser.add_argument(
        "--model", metavar="TEXT", help="a draft model: a folder or a hub name (default: none)"
    )
    parser.add_argument("--model-file", metavar="FILE", help="the ONNX file, if the model has several")
    parser.add_argument("--config", type=path_flag, metavar="FILE", help="agent.toml for the device")
    parser.add_argument(
        "--wheel",
        type=path_flag,
        metavar="FILE",
        help="the wheel of hybrid-lm (default: built from the checkout that this runs from)",
    )
    parser.add_argument(
        "--machine", choices=("aarch64", "x86_64"), default="aarch64", help="its processor (default: aarch64)"
    )
    parser.add_argument(
        "--python-version", metavar="X.Y", default="3.11", help="its Python (default: 3.11, as in Debian 12)"
    )


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a folder, hub name or GGUF file that transformers can load")
    parser.add_argument("out", type=path_flag, help="the folder to write")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8", "int4", "auto"),
        default="int8",
        help="fp16 is for CUDA; auto measures int8 and int4 here and keeps the faster (default: int8)",
    )
    parser.add_argument(
        "--prompts",
        type=path_flag,
        metavar="FILE",
        help="check the graph on the model's answers to these prompts, one per line (default: six)",
    )
    parser.add_argument(
        "--providers",
        action="append",
        default=[],
        metavar="TEXT",
        help="ONNX Runtime execution provider, in order of preference; repeatable",
    )
    # the old name of --providers
    parser.add_argument("--provider", action="append", dest="providers", help=argparse.SUPPRESS)


def _with_settings(flags: argparse.Namespace) -> int:
    if flags.command == "generate" and (flags.lines or flags.jsonl) and flags.prompt not in (None, "-"):
        flag = "--lines" if flags.lines else "--jsonl"
        raise SettingsError(f"{flag} reads many prompts: give - or -f FILE in place of a prompt")
    grammar = grammar_given(flags) if flags.command == "generate" else None
    config = load(AgentConfig, flags, ENV_PREFIX)
    configure_logging(
        config.log_level, config.log_format, text_format="edge-agent: %(levelname)s %(message)s"
    )
    if flags.command == "doctor":  # does without ONNX Runtime until it knows that it loads
        from edge_agent.cli.doctor import doctor

        with interrupts_raised():
            return doctor(config, flags)
    # ONNX Runtime takes a while to import: --help and wrong settings do not wait for it
    if flags.command == "serve":
        from edge_agent.cli.serve import serve

        with interrupts_raised():
            return serve(config)
    from edge_agent.cli.commands import chat, generate

    with interrupts_raised():
        return chat(config, flags) if flags.command == "chat" else generate(config, flags, grammar)


def _pull(flags: argparse.Namespace) -> int:
    from edge_agent.draft_model.pulling import pull

    with interrupts_raised():
        print(pull(flags.name, to=flags.to, model_file=flags.model_file, revision=flags.revision))
    return 0


def _bundle(flags: argparse.Namespace) -> int:
    from edge_agent.bundle import Device, Parts, write_bundle

    parts = Parts(flags.wheel, flags.model, flags.model_file, flags.config)
    with interrupts_raised():
        print(write_bundle(flags.out, parts, Device(flags.machine, flags.python_version)))
    return 0


def _export(flags: argparse.Namespace) -> int:
    from edge_agent.export import export

    stderr = sys.stderr  # the exporters' own output is silenced
    prompts = _prompts_of(flags.prompts) if flags.prompts else ()

    def show(line: str) -> None:
        print(line, file=stderr, flush=True)

    options: dict[str, Any] = {"providers": flags.providers, "prompts": prompts, "progress": show}
    with interrupts_raised():
        if flags.precision == "auto":
            from edge_agent.export.auto import export_best

            report = export_best(flags.source, flags.out, **options)
        else:
            report = export(flags.source, flags.out, flags.precision, **options)
        print(report)
    return 0


def _prompts_of(path: Path) -> list[str]:
    """The lines of a file that are not empty."""
    try:
        prompts = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--prompts {path} cannot be read ({error}): give a text file") from error
    if not prompts:
        raise SettingsError(f"--prompts {path} has no prompt: give one per line")
    return prompts


_WITHOUT_SETTINGS = {"export": _export, "pull": _pull, "bundle": _bundle}


def _replace_unencodable() -> None:
    """Print a question mark for a character that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _drop_output() -> None:
    """Keep the interpreter from writing, as it exits, what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, code: int) -> int:
    print(f"edge-agent: {printable(with_flags(message, AgentConfig))}", file=sys.stderr)
    return code
