"""`edge-agent`: the command line."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from common.process.log import configure_logging
from common.process.settings import CommandLine, SettingsError, add_flags, load
from edge_agent.config import ENV_PREFIX, AgentConfig
from edge_agent.errors import AgentError, ConfigError
from edge_agent.policy.schemes import SCHEMES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0: done, 1: could not, 2: wrong usage, 130: interrupted)."""
    _take_any_text()
    flags = _parser().parse_args(arguments)
    try:
        return _export(flags) if flags.command == "export" else _talk(flags)
    except SettingsError as error:
        return _complain(str(error), 2)
    except AgentError as error:
        return _complain(str(error), 2 if isinstance(error, ConfigError) else 1)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except OSError as error:  # the output's: all others are explained where they arise
        _drop_output()
        return _complain(f"cannot write the answer ({error.strerror})", 1)


def _parser() -> argparse.ArgumentParser:
    settings = (
        f"Every setting is a flag, an environment variable ({ENV_PREFIX}NAME) and a key of the TOML file."
    )
    schemes = "\n".join(f"  {scheme.name:15} {scheme.summary}" for scheme in SCHEMES.values())
    parser = CommandLine(
        prog="edge-agent",
        description="Drafts text with a small model on this device and asks a large one in the cloud, over\n"
        "MQTT, only where the small one is uncertain.",
        epilog=f"schemes:\n{schemes}\n\n{settings}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    generate = commands.add_parser("generate", help="answer a prompt", description=settings)
    generate.add_argument("prompt", help="the prompt; - reads one a line from standard input")
    generate.add_argument(
        "--show-tokens", action="store_true", help="colour every token by where it came from"
    )
    generate.add_argument("--json", action="store_true", help="print one JSON object a prompt, nothing else")
    generate.add_argument(
        "--json-events", action="store_true", help="as --json, with an object for each token before it"
    )
    generate.add_argument("--quiet", action="store_true", help="no summary")
    chat = commands.add_parser("chat", help="talk to the model", description=settings)
    chat.add_argument("--show-tokens", action="store_true", help="colour every token by where it came from")
    chat.add_argument("--quiet", action="store_true", help="no summaries")
    for command in (generate, chat):
        command.add_argument(
            "--tentative", action="store_true", help="on a terminal: show tokens dim before they are verified"
        )
        add_flags(command, AgentConfig, ENV_PREFIX)
    export = commands.add_parser(
        "export",
        help="make an ONNX draft model (needs the extra 'export')",
        description="Writes a folder that --model takes, and checks it against torch.",
    )
    export.add_argument("source", help="a folder or hub name that transformers can load")
    export.add_argument("out", type=Path, help="the folder to write")
    export.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8", "int4"),
        default="int8",
        help="fp16 is for CUDA (default: int8)",
    )
    export.add_argument(
        "--provider", action="append", default=[], help="ONNX Runtime execution provider; repeatable"
    )
    return parser


def _talk(flags: argparse.Namespace) -> int:
    config = load(AgentConfig, flags, ENV_PREFIX)
    configure_logging(
        config.log_level, config.log_format, text_format="edge-agent: %(levelname)s %(message)s"
    )
    # ONNX Runtime takes a while to import: --help and wrong settings need not wait for it
    from edge_agent.cli.commands import chat, generate

    return chat(config, flags) if flags.command == "chat" else generate(config, flags)


def _export(flags: argparse.Namespace) -> int:
    from edge_agent.export import export

    print(export(flags.source, flags.out, flags.precision, providers=flags.provider))
    return 0


def _take_any_text() -> None:
    """Show a question mark where the terminal's encoding lacks a character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _drop_output() -> None:
    """Keep the interpreter from trying once more, at its end, to write what nobody takes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(sentence: str, code: int) -> int:
    print(f"edge-agent: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
