"""What is simulated: a pair, its prompts and its sampling, and the worlds that the pages use.

Law: a scheme's messages are drafted once and then timed in every world, each prompt alone, since with a fixed
threshold the text does not depend on the channel. A scheme that learns from its link is drafted again in each
world, with its prompts one after another on one device, as in real use.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from evaluation.models.pair import Pair
from evaluation.simulate.measures import Speed, Worth, greedy_reply, speed, worth
from evaluation.simulate.running import Prompt, Simulation, World
from evaluation.simulate.variants import GAMMAS, PEERS, best_length, variant
from evaluation.simulate.world.accounting import PAPERS_VOCAB_SIZE, Papers, Wire
from evaluation.simulate.world.channel import Channel, Direction, FadingRate
from evaluation.simulate.world.compute import Compute
from evaluation.simulate.world.device import Known, Outcome
from evaluation.smart_home.fresh import fresh_commands
from evaluation.smart_home.held_out import HeldOut

BROKER_SECONDS = 0.25e-3  # half of what the path adds to a round trip (docs/measurements.md, "The path")
NUM_TUNED = 4  # commands on which a peer's block length is chosen
SEEDS_APART = 10_000  # more than the number of commands, so that no two texts share random numbers
DOWN_SEED = 1_000_003  # so that the downlink fades differently from the uplink


@dataclass(slots=True)
class Study:
    """`asked` are the commands of `prompts`, with the right actions; `settings` are those of every agent."""

    pair: Pair
    asked: Sequence[HeldOut]
    prompts: Sequence[Prompt]
    settings: dict[str, object]
    compute: Compute
    tuning: Sequence[Prompt] = ()  # other commands, on which a peer's block length is chosen
    _known: Known = field(default_factory=dict)
    _simulations: dict[str, Simulation] = field(default_factory=dict)
    _greedy: list[list[int]] = field(default_factory=list)
    _worths: dict[str, Worth] = field(default_factory=dict)

    @classmethod
    def of(
        cls, pair: Pair, asked: Sequence[HeldOut], seed: int, settings: dict[str, object], compute: Compute
    ) -> "Study":
        """Give each command its own seed, counted up from `seed`."""
        prompts = [Prompt(tuple(pair.prompt(one.command)), seed + i) for i, one in enumerate(asked)]
        fresh = enumerate(fresh_commands(NUM_TUNED), seed)
        tuning = [Prompt(tuple(pair.prompt(command)), number) for number, command in fresh]
        return cls(pair, asked, prompts, settings, compute, tuning)

    def repeated(self, num_seeds: int) -> "Study":
        """Return a study in which every command is asked `num_seeds` times, each time with other seeds."""
        prompts = [
            replace(prompt, seed=prompt.seed + repetition * SEEDS_APART)
            for repetition in range(num_seeds)
            for prompt in self.prompts
        ]
        asked = [*self.asked] * num_seeds
        return Study(self.pair, asked, prompts, self.settings, self.compute, self.tuning)

    @property
    def num_commands(self) -> int:
        """The number of commands; each is asked as often."""
        return len({prompt.tokens for prompt in self.prompts})

    @property
    def described(self) -> str:
        """What is asked, for the head of a page."""
        num_seeds = len(self.prompts) // self.num_commands
        return f"{self.num_commands} held-out commands" + (
            f", {num_seeds} seeds each" if num_seeds > 1 else ""
        )

    def simulation(self, name: str, **settings: object) -> Simulation:
        """Return the simulation of a scheme with `settings` that differ from the study's; made once."""
        label = f"{name} {sorted(settings.items())}"
        if label not in self._simulations:
            chosen = variant(name, **{**self.settings, **settings})
            self._simulations[label] = Simulation(self.pair, chosen, self._known)
        return self._simulations[label]

    def simulation_in(self, name: str, world: World, **settings: object) -> Simulation:
        """Return `simulation`; a peer without a length (`sd`, `dssd`) gets the fastest for this world.

        It is chosen on the commands of `tuning`, never on those that are compared.
        """
        if name not in PEERS:
            return self.simulation(name, **settings)
        rates = {
            gamma: speed(self.simulation(f"{name}-{gamma}", **settings).run_alone(self.tuning, world))
            for gamma in GAMMAS
        }
        gamma = best_length({gamma: rate.tokens_per_second for gamma, rate in rates.items()})
        return self.simulation(f"{name}-{gamma}", **settings)

    def forget(self) -> None:
        """Forget what was drafted and run, to free memory; it is made again where it is needed again."""
        self._simulations.clear()
        self._known.clear()

    def run(self, simulation: Simulation, world: World, count: int | None = None) -> list[Outcome]:
        """Run the first `count` prompts (None: all), each alone, or in turn if the scheme learns."""
        prompts = self.prompts[:count]
        return (
            simulation.run([prompts], world)[0]
            if simulation.variant.learns
            else simulation.run_alone(prompts, world)
        )

    def speed(self, simulation: Simulation, world: World, count: int | None = None) -> Speed:
        """Run, and return the figures."""
        return speed(self.run(simulation, world, count))

    def worth(self, name: str, **settings: object) -> Worth:
        """Return the worth of a scheme's texts, over all prompts on an instant link; computed once."""
        label = f"{name} {sorted(settings.items())}"
        if label not in self._worths:
            simulation = self.simulation(name, **settings)
            self._worths[label] = self.worth_of(simulation, self.run(simulation, self.free()))
        return self._worths[label]

    def worth_of(self, simulation: Simulation, outcomes: Sequence[Outcome]) -> Worth:
        """Return the worth of the texts of a run of all prompts."""
        return worth(simulation, outcomes, self.asked, self.greedy())

    def greedy(self) -> list[list[int]]:
        """Return the target's own greedy replies, one per prompt."""
        if not self._greedy:
            limit = int(str(self.settings.get("max_tokens", 256)))
            self._greedy = [greedy_reply(self.pair, prompt.tokens, limit) for prompt in self.prompts]
        return self._greedy

    # -- worlds -----------------------------------------------------------------------------------------

    def free(self) -> World:
        """Return a world in which the link takes no time."""
        return World(lambda _seed: Channel(), self.compute, lambda: Papers(PAPERS_VOCAB_SIZE))

    def papers(self, bandwidth_hz: float, snr_db: float, vocab_size: int) -> World:
        """Return the papers' world: payloads over a fading uplink; else only tokens and passes take time."""
        return World(
            lambda seed: Channel(up=Direction(FadingRate(bandwidth_hz, snr_db, seed))),
            replace(self.compute, prompt_seconds=0.0, position_seconds=0.0),
            lambda: Papers(vocab_size),
        )

    def wire(self, bandwidth_hz: float, snr_db: float, delay: float) -> World:
        """Return a world with fading both ways, a one-way delay in seconds, and everything counted."""
        return World(
            lambda seed: Channel(
                up=Direction(FadingRate(bandwidth_hz, snr_db, seed), delay),
                down=Direction(FadingRate(bandwidth_hz, snr_db, seed + DOWN_SEED), delay),
            ),
            self.compute,
            lambda: Wire(self.pair.vocab_size, tcp=True),
            broker_seconds=BROKER_SECONDS,
        )
