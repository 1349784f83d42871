"""Check the simulation: run the same generations for real and simulated, on links of three rates and delays.

    python -m benchmarks.simulation_check

The target rejects some draft tokens of the chosen prompts, so that replacements and void drafts are compared
too. hlm, which takes seconds per token on the slow link, gets fewer prompts.

The real run has mosquitto behind the link emulator, a worker process and an agent with the demo pair, both
models slowed to fixed times. The simulated run has the same settings, prompts and seeds, and the computing
times that the real run had (a little longer than set on a busy machine). The exit code is 0 if all texts are
equal and tokens per second and bytes agree within 15 %. The table goes to docs/results.
"""

import argparse
import asyncio
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.hidden_round_trip import slowed_draft
from benchmarks.support.link_emulator import Conditions, LinkEmulator
from benchmarks.support.slowed import SlowedDraft
from common.process.paths import path_flag
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.draft_model.draft_model import Logits
from evaluation.help_format import command_parser
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from evaluation.models.pair import Pair, default_cache, load_pair
from evaluation.reporting.results import RESULTS, header, markdown_table, shown, write_csv, write_section
from evaluation.simulate.running import Prompt, Simulation, World
from evaluation.simulate.study import BROKER_SECONDS
from evaluation.simulate.variants import variant
from evaluation.simulate.world.accounting import Wire
from evaluation.simulate.world.channel import Channel, Direction, FixedRate
from evaluation.simulate.world.compute import Compute
from evaluation.smart_home.held_out import HeldOut, held_out

TOLERANCE = 0.15
SCHEMES = ("hlm", "u-hlm", "cu-hlm-offline", "opportunistic", "lossless", "coupled", "llm")


@dataclass(frozen=True, slots=True)
class Setting:
    """A link that is the same in both directions."""

    kbps: float
    delay_ms: float

    def __str__(self) -> str:
        return f"{self.kbps:g} kbit/s, {self.delay_ms:g} ms"


SETTINGS = (Setting(128, 100), Setting(512, 25), Setting(4000, 50))


@dataclass(frozen=True, slots=True)
class Found:
    """The results of all prompts; bytes are whole MQTT packets."""

    texts: tuple[tuple[int, ...], ...]
    tokens_per_second: float
    bytes_up: float
    bytes_down: float
    num_rejections: int
    compute: Compute


@dataclass(slots=True)
class Counted:
    """A draft model that counts its calls."""

    model: SlowedDraft
    num_calls: int = 0

    @property
    def max_positions(self) -> int:
        """The model's."""
        return self.model.max_positions

    def logits(self, tokens: Sequence[int]) -> Logits:
        """The model's."""
        self.num_calls += 1
        return self.model.logits(tokens)


def chosen(scheme: str, flags: argparse.Namespace) -> list[tuple[int, HeldOut]]:
    """Return the commands for a scheme, each with its place in the list, which is its seed."""
    count = flags.hlm_prompts if scheme == "hlm" else flags.prompts
    return list(enumerate(held_out(count, first=flags.first), flags.first))


async def real(broker: LocalBroker, setting: Setting, scheme: str, flags: argparse.Namespace) -> Found:
    """Run the generations through real processes and sockets."""
    conditions = Conditions(setting.delay_ms / 1000, rate_mbps=setting.kbps / 1000)
    texts: list[tuple[int, ...]] = []
    seconds = drafting = 0.0
    pass_seconds: list[float] = []
    num_rejections = 0
    model = Counted(slowed_draft(flags.draft_ms / 1000))
    async with LinkEmulator("127.0.0.1", broker.port, conditions, conditions) as link:
        config = AgentConfig(broker=link.url, device="device0", scheme=scheme, temperature=1.0)
        async with EdgeAgent.open(config, model=model) as agent:
            for seed, asked in chosen(scheme, flags):
                generation = agent.generate(asked.command, seed=seed)
                tokens = [token.token async for token in generation]
                texts.append(tuple(token for token in tokens if token is not None))
                seconds += generation.clock.total
                drafting += generation.clock.drafting
                tally = generation.session.tally
                num_rejections += tally.num_tested - tally.num_accepted
                if tally.num_uplinks:  # otherwise there was no pass to time
                    pass_seconds.append(generation.session.pacing.passes.seconds)
            statistics = agent.link_statistics
    num_tokens = sum(map(len, texts))
    return Found(
        tuple(texts),
        num_tokens / seconds,
        statistics.num_bytes_up / num_tokens,
        statistics.num_bytes_down / num_tokens,
        num_rejections,
        Compute(drafting / max(1, model.num_calls), sum(pass_seconds) / max(1, len(pass_seconds))),
    )


def simulated(
    pair: Pair, setting: Setting, scheme: str, compute: Compute, flags: argparse.Namespace
) -> Found:
    """Run the same generations in virtual time."""
    direction = Direction(FixedRate(1000 * setting.kbps), setting.delay_ms / 1000)
    world = World(
        lambda seed: Channel(direction, direction, seed),
        compute,
        lambda: Wire(pair.vocab_size, tcp=False),
        broker_seconds=BROKER_SECONDS,
        patient=False,
    )
    prompts = [Prompt(tuple(pair.prompt(one.command)), seed) for seed, one in chosen(scheme, flags)]
    (outcomes,) = Simulation(pair, variant(scheme, temperature=1.0)).run([prompts], world)
    num_tokens = sum(len(outcome.finals) for outcome in outcomes)
    return Found(
        tuple(tuple(outcome.tokens) for outcome in outcomes),
        num_tokens / sum(outcome.seconds for outcome in outcomes),
        sum(outcome.traffic.bytes_up for outcome in outcomes) / num_tokens,
        sum(outcome.traffic.bytes_down for outcome in outcomes) / num_tokens,
        sum(outcome.tally.num_tested - outcome.tally.num_accepted for outcome in outcomes),
        compute,
    )


@dataclass(frozen=True, slots=True)
class Line:
    """One scheme on one link."""

    setting: Setting
    scheme: str
    real: Found
    simulated: Found

    def errors(self) -> tuple[float, float, float]:
        """Return simulated / real - 1 of tokens per second, bytes up and bytes down."""
        names = ("tokens_per_second", "bytes_up", "bytes_down")
        one, two, three = (getattr(self.simulated, name) / getattr(self.real, name) - 1 for name in names)
        return one, two, three

    @property
    def holds(self) -> bool:
        """Whether the texts are equal and every figure is within the tolerance."""
        near = all(abs(error) <= TOLERANCE for error in self.errors())
        return near and self.real.texts == self.simulated.texts


def compare(flags: argparse.Namespace) -> list[Line]:
    """Run every scheme on every link, both ways."""
    lines: list[Line] = []
    program = [sys.executable, "-m", "benchmarks.support.slowed", "--pass-ms", str(flags.pass_ms)]
    with ExitStack() as stack:
        pair = stack.enter_context(load_pair(cache=default_cache()))
        broker = stack.enter_context(LocalBroker())
        stack.enter_context(LocalWorker(broker.url, name="w1", program=program))
        for setting in SETTINGS:
            for scheme in flags.schemes.split(","):
                found = asyncio.run(real(broker, setting, scheme, flags))
                virtual = simulated(pair, setting, scheme, found.compute, flags)
                lines.append(Line(setting, scheme, found, virtual))
                print(*map(shown, row(lines[-1])), sep="  ", flush=True)
    return lines


def row(line: Line) -> list[str | float]:
    """Return a row of the table."""
    speed, up, down = line.errors()
    return [
        str(line.setting),
        line.scheme,
        f"{1000 * line.real.compute.draft_seconds:.0f} + {1000 * line.real.compute.pass_seconds:.0f}",
        line.real.tokens_per_second,
        line.simulated.tokens_per_second,
        f"{100 * speed:+.1f} %",
        line.real.bytes_up,
        line.simulated.bytes_up,
        f"{100 * up:+.1f} %",
        f"{100 * down:+.1f} %",
        line.real.num_rejections,
        "yes" if line.real.texts == line.simulated.texts else "no",
    ]


HEADINGS = (
    "link (rate, one-way delay)",
    "scheme",
    "draft + pass (ms)",
    "tokens/s, real",
    "simulated",
    "difference",
    "B up/token, real",
    "simulated",
    "difference",
    "bytes down",
    "rejections",
    "same texts",
)


def write(lines: Sequence[Line], flags: argparse.Namespace, folder: Path) -> None:
    """Write the table and its CSV file."""
    command = shlex.join(["python", "-m", "benchmarks.simulation_check", *sys.argv[1:]])
    about = (
        f"{header(command)}\n\n{flags.prompts} held-out commands per scheme, from number {flags.first} on, "
        f"{flags.hlm_prompts} for hlm; the draft model takes "
        f"{flags.draft_ms:g} ms per token, the target model {flags.pass_ms:g} ms per pass."
    )
    rows = [row(line) for line in lines]
    write_csv(folder / "simulation-check.csv", HEADINGS, rows)
    write_section(
        folder / "simulation-check.md", "check", "\n\n".join([about, markdown_table(HEADINGS, rows)])
    )


def main() -> int:
    """Compare and write; return 0 if all agree, 1 otherwise."""
    parser = command_parser("benchmarks.simulation_check", __doc__)
    parser.add_argument("--draft-ms", type=float, default=80.0, help="how long a draft token takes")
    parser.add_argument("--pass-ms", type=float, default=160.0, help="how long a forward pass takes")
    parser.add_argument("--first", type=int, default=11, help="the first held-out command")
    parser.add_argument("--prompts", type=int, default=2, help="commands per scheme")
    parser.add_argument("--hlm-prompts", type=int, default=1, help="commands for hlm")
    parser.add_argument("--schemes", default=",".join(SCHEMES), help="schemes, separated by commas")
    parser.add_argument(
        "--out", type=path_flag, default=RESULTS, help="folder to write (default: docs/results)"
    )
    flags = parser.parse_args()
    lines = compare(flags)
    write(lines, flags, flags.out)
    bad = [line for line in lines if not line.holds]
    print(f"{len(lines) - len(bad)} of {len(lines)} agree within {TOLERANCE:.0%}, with equal texts")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
