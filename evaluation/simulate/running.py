"""Devices and a worker joined in virtual time: prompts in, outcomes out.

Law: nothing here decides anything; equal arguments give equal outcomes.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import simpy

from cloud_worker.scheduling.scheduler import Answer, Limits, SessionKey
from common.protocol.messages import ToWorker
from common.protocol.topics import Topics
from common.sampling.distribution import Sampling
from edge_agent.assembly import build_tuner, choose_sampling
from edge_agent.policy.rejection_fit import PUBLISHED_FIT, Fit
from edge_agent.session.pacing import Experience
from edge_agent.session.session import EdgeSession
from edge_agent.tuning.calibration import Calibration
from edge_agent.tuning.calibration_file import find_calibration
from edge_agent.tuning.tuner import Numbers, Tuner
from evaluation.models.pair import Pair
from evaluation.simulate.variants import Variant
from evaluation.simulate.world.accounting import Accounting
from evaluation.simulate.world.channel import Channel
from evaluation.simulate.world.compute import Compute
from evaluation.simulate.world.device import Device, Known, Outcome, Proposals, without_gate
from evaluation.simulate.world.virtual_time import later
from evaluation.simulate.world.worker import SimulatedWorker


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is generated: the tokens before it, and the seed of all its draws."""

    tokens: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class World:
    """Everything but the models and the scheme. `channel(seed)` and `accounting()` make one for a device.

    `broker_seconds` is what a message spends outside lines and models: broker, codec, loops, each way. In a
    `patient` world nobody asks twice: nothing is lost here, and a device that repeats what still lies in a
    slow line only makes it slower.
    """

    channel: Callable[[int], Channel]
    compute: Compute
    accounting: Callable[[], Accounting]
    broker_seconds: float = 0.0
    limits: Limits | None = None
    patient: bool = True


PATIENCE = 1e9  # seconds


class Simulation:
    """One pair and one variant; what the draft model proposed is remembered from one world to the next.

    A calibration beside the draft model is used as an agent uses it. Simulations that share `known` share
    the draft tokens of policies that differ in their gate alone.
    """

    def __init__(self, pair: Pair, variant: Variant, known: Known | None = None) -> None:
        self.pair, self.variant = pair, variant
        self.sampling = choose_sampling(variant.config, pair.info.sampling)
        self._known: Known = {} if known is None else known
        self.calibration = self._find_calibration()
        self.worker: SimulatedWorker | None = None  # that of the last run
        self._proposals: dict[tuple[int, Numbers], Proposals] = {}

    def run(self, prompts: Sequence[Sequence[Prompt]], world: World) -> list[list[Outcome]]:
        """One list a device, which generates its prompts in turn; all share a worker."""
        env = simpy.Environment()
        devices: dict[str, Device] = {}
        worker = SimulatedWorker(
            env,
            self.pair.target,
            self.pair.text.fingerprint,
            world.compute,
            lambda answer: later(env, world.broker_seconds, lambda: _hand_over(devices, answer)),
            world.limits,
        )
        self.worker = worker
        topics = Topics()

        def deliver(topic: str, message: ToWorker) -> None:
            uplink = topics.parse_uplink(topic)
            key = SessionKey(uplink.device, uplink.session)
            later(env, world.broker_seconds, lambda: worker.receive(key, message))

        outcomes: list[list[Outcome]] = [[] for _ in prompts]
        running: list[simpy.Process] = []
        for number, queue in enumerate(prompts):
            name = f"device{number}"
            channel = world.channel(queue[0].seed)
            devices[name] = Device(
                name, env, self.variant, channel, world.compute, world.accounting(), deliver, self._tuner()
            )
            generating = self._generate_all(devices[name], queue, outcomes[number], world.patient)
            running.append(env.process(generating))
        env.run(simpy.AllOf(env, running))
        for key in worker.keys:
            self.pair.target.forget(key)
        return outcomes

    def run_alone(self, prompts: Sequence[Prompt], world: World) -> list[Outcome]:
        """Each prompt in a world of its own, so that channels with equal seeds meet equal prompts."""
        return [self.run([[prompt]], world)[0][0] for prompt in prompts]

    def proposals(self, seed: int, numbers: Numbers | None = None) -> Proposals:
        """The draft side of generations with this seed; `numbers` None: those of an agent that just began."""
        numbers = numbers or self._tuner().numbers()
        if (seed, numbers) not in self._proposals:
            policy = self.variant.policy(self.sampling, seed, self.calibration, numbers)
            known = self._known.setdefault(without_gate(policy), {})
            self._proposals[seed, numbers] = Proposals(policy, self.pair.draft, self.pair.vocab_size, known)
        return self._proposals[seed, numbers]

    @property
    def fit(self) -> Fit:
        """The line from uncertainty to rejection: the pair's, or the published one without a calibration."""
        return self.calibration.fit if self.calibration else PUBLISHED_FIT

    def _generate_all(
        self, device: Device, queue: Sequence[Prompt], outcomes: list[Outcome], patient: bool
    ) -> Generator[simpy.Event, Any, None]:
        for number, prompt in enumerate(queue):
            session = self._session(prompt, patient, device.tuner.experience)
            name = f"{number:08x}"  # as long as an agent's
            proposals = self.proposals(prompt.seed, device.tuner.numbers())  # as `generate` begins with
            outcome = yield from device.generate(name, session, proposals)
            outcomes.append(replace(outcome, seed=prompt.seed))

    def _session(self, prompt: Prompt, patient: bool, experience: Experience) -> EdgeSession:
        opening = self.pair.opening(self.sampling, prompt.seed)
        settings = self.variant.settings(
            opening, self.pair.info.eos_ids, self.pair.draft.max_positions, experience
        )
        if patient:
            settings = replace(
                settings,
                cloud_timeout=PATIENCE,
                first_timeout=PATIENCE,
                min_timeout=PATIENCE,
                max_timeout=2 * PATIENCE,
            )
        return EdgeSession(prompt.tokens, settings)

    def _tuner(self) -> Tuner:
        return build_tuner(self.variant.config, self.calibration)

    def _find_calibration(self) -> Calibration | None:
        """As `EdgeAgent` does."""
        config = self.variant.config
        if self.variant.gamma or not config.uses_calibration:
            return None
        return _found(
            self.pair.info.folder,
            config.calibration,
            self.pair.text.fingerprint,
            self.sampling,
            config.estimator,
        )


@cache
def _found(
    folder: Path, named: str | None, tokenizer: bytes, sampling: Sampling, estimator: str | None
) -> Calibration | None:
    """Look once, so that a calibration that is ignored is mentioned once and not for each threshold."""
    return find_calibration(folder, named, tokenizer=tokenizer, sampling=sampling, estimator=estimator)


def _hand_over(devices: dict[str, Device], answer: Answer) -> None:
    devices[answer.key.device].answer(answer.key.session, answer.message)
