"""The demo, `make demo`: held-out commands under every scheme, with a real broker, worker and agents.

Law: every figure in the table comes from a process that a user could start by hand; nothing is assumed.
"""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.process.interrupt import INTERRUPTED, interrupts_raised
from edge_agent.tools.action_schema import home_schema
from evaluation.demo.broker import demo_broker
from evaluation.demo.serving import PORT, serve
from evaluation.help_format import command_parser
from evaluation.local.broker import BrokerError
from evaluation.local.worker import LocalWorker, WorkerError
from evaluation.smart_home.held_out import HeldOut, held_out
from evaluation.smart_home.scoring import read_actions

NUM_COMMANDS = 10
SHOWN = 3  # the index of the command that is shown; its numbers are hard for the draft model
SEED = "7"
SCHEMES = (
    "slm",
    "llm",
    "hlm",
    "u-hlm",
    "cu-hlm-offline",
    "cu-hlm-online",
    "opportunistic",
    "lossless",
    "coupled",
)
HEADINGS = (
    "scheme",
    "exact",
    "tokens",
    "uplinks/token",
    "B up/token",
    "B down/token",
    "accepted",
    "tokens/s",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One scheme over all commands; bytes are whole MQTT packets, in both directions."""

    scheme: str
    num_exact: int
    num_commands: int
    num_tokens: int
    num_uplinks: int
    num_bytes_up: int
    num_bytes_down: int
    num_accepted: int
    num_tested: int
    seconds: float

    def cells(self) -> tuple[str, ...]:
        """Return the row as printed, in the order of HEADINGS."""
        tokens = max(1, self.num_tokens)
        return (
            self.scheme,
            f"{self.num_exact}/{self.num_commands}",
            str(self.num_tokens),
            f"{self.num_uplinks / tokens:.2f}",
            f"{self.num_bytes_up / tokens:.1f}",
            f"{self.num_bytes_down / tokens:.1f}",
            f"{self.num_accepted / self.num_tested:.0%}" if self.num_tested else "-",
            f"{self.num_tokens / self.seconds:.0f}",
        )


def run() -> int:
    """Run the demo, or with `--serve` serve its page; return 0 if every generation succeeded."""
    parser = command_parser("evaluation.demo", "Shows every scheme on the demo's models.")
    parser.add_argument("--serve", action="store_true", help="serve the page, until Ctrl-C")
    parser.add_argument("--port", type=int, default=PORT, help="of the page")
    flags = parser.parse_args()
    signal.signal(signal.SIGTERM, _leave)
    try:
        with interrupts_raised():
            return serve(flags.port) if flags.serve else _demonstrate()
    except (BrokerError, WorkerError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped", file=sys.stderr)
        return INTERRUPTED


def _demonstrate() -> int:
    with demo_broker() as broker:
        print(f"{broker.program} is listening at {broker.url}; loading the target model ...", flush=True)
        with LocalWorker(broker.url, "--model", "demo") as worker:
            print(f"worker process {worker.pid} is ready\n", flush=True)
            return _show(broker.url)


def _leave(_number: int, _frame: object) -> None:
    sys.exit(143)  # through the `with` blocks, as Ctrl-C does


def _show(broker_url: str) -> int:
    commands = held_out(NUM_COMMANDS)
    shown = commands[SHOWN].command
    for scheme in ("slm", "opportunistic"):
        print(f"$ edge-agent generate {shown!r} --scheme {scheme} --show-tokens", flush=True)
        _agent(broker_url, shown, "--scheme", scheme, "--show-tokens")
    print(f"\n{len(commands)} held-out commands, temperature 1, seed {SEED}:\n", flush=True)
    print(_line(HEADINGS), flush=True)
    for scheme in SCHEMES:
        print(_line(_run(broker_url, scheme, commands).cells()), flush=True)
    print(f"\n{_constrained(broker_url, commands)}", flush=True)
    print(
        "\nlossless and coupled keep the target model's distribution exactly; llm is the target model alone."
        "\n\nTo talk to it: make serve, then open http://127.0.0.1:8080 in a browser."
    )
    return 0


def _constrained(broker_url: str, commands: Sequence[HeldOut]) -> str:
    """One line about the same commands, answered under the schema of the home."""
    prompts = "".join(command.command + "\n" for command in commands)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(home_schema(), file)
        file.flush()
        flags = ("--lines", "--json", "--scheme", "lossless", "--json-schema", file.name)
        reports = [json.loads(line) for line in _agent(broker_url, "-", *flags, prompts=prompts).splitlines()]
    num_valid = sum(read_actions(report["text"]) is not None for report in reports)
    num_exact = sum(one.is_right(report["text"]) for report, one in zip(reports, commands, strict=True))
    num_tokens = sum(report["num_tokens"] for report in reports)
    num_forced = sum(report["num_by_fate"]["forced"] for report in reports)
    later = reports[1:]  # the first command brings the worker the schema
    num_bytes = sum(report["num_bytes_up"] + report["num_bytes_down"] for report in later)
    return (
        f"lossless, only the actions, under the home's JSON schema: {num_valid}/{len(commands)} valid lists, "
        f"{num_exact}/{len(commands)} exact, {num_forced / num_tokens:.0%} of {num_tokens} tokens forced, "
        f"{num_bytes / len(later):.0f} B per command once the worker has the schema"
    )


def _run(broker_url: str, scheme: str, commands: Sequence[HeldOut]) -> Row:
    """Run one agent process with all commands under one scheme."""
    prompts = "".join(command.command + "\n" for command in commands)
    output = _agent(broker_url, "-", "--lines", "--json", "--scheme", scheme, prompts=prompts)
    reports = [json.loads(line) for line in output.splitlines()]
    exact = [command.is_right(report["text"]) for report, command in zip(reports, commands, strict=True)]

    def total(name: str) -> Any:
        return sum(report[name] for report in reports)

    return Row(
        scheme=scheme,
        num_exact=sum(exact),
        num_commands=len(commands),
        num_tokens=total("num_tokens"),
        num_uplinks=total("num_uplinks"),
        num_bytes_up=total("num_bytes_up"),
        num_bytes_down=total("num_bytes_down"),
        num_accepted=total("num_accepted"),
        num_tested=total("num_tested"),
        seconds=total("seconds"),
    )


def _agent(broker_url: str, prompt: str, *flags: str, prompts: str | None = None) -> str:
    """Run `edge-agent generate` as a process; return its output if `prompts` are given, else show it."""
    command = [sys.executable, "-m", "edge_agent", "generate", prompt, "--broker", broker_url]
    command += ["--model", "demo", "--seed", SEED, "--temperature", "1", *flags]
    captured = subprocess.PIPE if prompts is not None else None
    done = subprocess.run(command, input=prompts, stdout=captured, text=True, check=False)
    if done.returncode:
        raise WorkerError(f"the agent exited with code {done.returncode}")
    return done.stdout or ""


def _line(cells: Sequence[str]) -> str:
    first, *others = cells
    return f"{first:15}" + "".join(f"{cell:>15}" for cell in others)
