"""Compare verifications per second: the worker's own engine, and a vLLM server on the same CPU.

Each session has a context and sends drafts of a few tokens at temperature 1. The draft model's distribution
is the target's with noise, truncated to 12 ids. Both engines verify the same drafts in turn, as the worker
calls them: the own engine all sessions in one batch, vLLM each session by itself, all at once.

    python -m benchmarks.vllm_verification --vllm .venv-vllm --model DIR --sessions 1 8
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.support.vllm_server import VllmServer
from cloud_worker.engines.engine import Engine
from cloud_worker.engines.local import LocalEngine
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.scheduling.fair_queue import SessionKey
from cloud_worker.scheduling.retries import Unjudged
from cloud_worker.scheduling.task import Task
from cloud_worker.session.admission import Target
from cloud_worker.session.job import Job
from cloud_worker.session.judging import Judged
from cloud_worker.session.session import CloudSession
from cloud_worker.target_model import TargetModel
from cloud_worker.vllm_target.client import Client
from cloud_worker.vllm_target.engine import VllmEngine
from cloud_worker.vllm_target.model_folder import ModelFolder
from cloud_worker.vllm_target.start_checks import check
from common.protocol.messages import Draft, DraftToken, Opening
from common.sampling.distribution import Sampling, fit_vocabulary, quantise, softmax
from common.sampling.randomness import Purpose, uniform
from evaluation.help_format import command_parser

NUM_IDS = 12


@dataclass
class Session:
    """A sequence that grows by what is verified."""

    number: int
    tokens: list[int]
    vocab_size: int
    opening: Opening = field(init=False)

    def __post_init__(self) -> None:
        self.opening = Opening(b"", self.vocab_size, Sampling(), self.number)

    def task(self, block: Sequence[DraftToken], name: str) -> Task:
        """The next draft as a task for an engine; each engine knows the session by a name of its own."""
        context = tuple(self.tokens)
        draft = Draft(1, 0, 0, context, tuple(block), opening=self.opening)
        tokens = (*context, *(item.token for item in block[:-1]))
        target = CloudSession(Target("w", b"", self.vocab_size, 1 << 20))
        job = Job(self.opening, (draft,), tokens, len(block))
        return Task(SessionKey(name, str(self.number)), target, job)


def block(model: TargetModel, session: Session, length: int, noise: float) -> list[DraftToken]:
    """Draft tokens from a distribution near the target's; the time for this is not measured."""
    drafted: list[DraftToken] = []
    for index in range(length):
        tokens = [*session.tokens, *(item.token for item in drafted)]
        row = model.logits([Pass(("drafts", session.number), tokens)])[0][-1]
        logits = fit_vocabulary(np.asarray(row), session.vocab_size)
        moved = logits + noise * np.random.default_rng(len(tokens)).normal(size=len(logits))
        lattice = quantise(softmax(moved), NUM_IDS, 256)
        position = len(session.tokens) + index
        token = lattice.draw(uniform(session.number, position, Purpose.DRAFT))
        drafted.append(DraftToken(token, lattice))
    return drafted


async def verified(engine: Engine, tasks: Sequence[Task]) -> list[Judged]:
    """The verdicts of all tasks, in as many batches as the engine takes at once."""
    size = engine.max_batch or len(tasks)
    batches = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    done = await asyncio.gather(*(engine.verify(batch, [None] * len(batch)) for batch in batches))
    judged: list[Judged] = []
    for part in (part for one in done for part in one.parts):
        assert part.outcome is not None
        assert not isinstance(part.outcome, Unjudged), part.outcome
        judged += part.outcome
    return judged


async def compare(
    model: TargetModel,
    engines: dict[str, Engine],
    sessions: Sequence[Session],
    length: int,
    runs: int,
    noise: float,
) -> tuple[dict[str, list[float]], float]:
    """The seconds of every run by engine, and the tokens accepted per draft; the engines take turns."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    num_accepted: list[int] = []
    for run in range(runs + 1):
        blocks = [block(model, session, length, noise) for session in sessions]
        verdicts: dict[str, list[Judged]] = {}
        for name, engine in engines.items():
            tasks = [one.task(drafted, name) for one, drafted in zip(sessions, blocks, strict=True)]
            began = time.perf_counter()
            verdicts[name] = await verified(engine, tasks)
            if run:  # the first reads the contexts
                times[name].append(time.perf_counter() - began)
        for session, drafted, one in zip(sessions, blocks, verdicts["own"], strict=True):
            count = one.verdict.num_accepted
            num_accepted.append(count)
            session.tokens += [item.token for item in drafted[:count]]
            session.tokens += [] if one.verdict.token is None else [one.verdict.token]
    return times, statistics.mean(num_accepted)


async def measure(url: str, folder: str, options: "Options") -> None:
    """Print one line per number of sessions."""
    served_folder = ModelFolder.read(folder)
    client = Client(url)
    async with client:
        served = await check(client, "", served_folder)
    model = TargetModel.load(folder, num_threads=options.threads)
    counted = CountedClient(url)
    counted.model = client.model
    async with LocalEngine(model) as own, VllmEngine(counted, served, served_folder) as remote:
        for num_sessions in options.sessions:
            random = np.random.default_rng(num_sessions)
            sessions = [
                Session(
                    1000 * num_sessions + index,
                    random.integers(100, 1000, options.past).tolist(),
                    own_size(model),
                )
                for index in range(num_sessions)
            ]
            counted.num_requests = 0
            times, accepted = await compare(
                model, {"own": own, "vllm": remote}, sessions, options.new, options.runs, options.noise
            )
            rates = {name: num_sessions / statistics.median(runs) for name, runs in times.items()}
            per_draft = counted.num_requests / (num_sessions * (options.runs + 1))
            print(
                f"{num_sessions:3d} sessions: own {rates['own']:.1f} verifications/s, "
                f"vLLM {rates['vllm']:.1f}, ratio {rates['own'] / rates['vllm']:.1f}; "
                f"{accepted:.2f} of {options.new} tokens accepted, {per_draft:.1f} requests per verification",
                flush=True,
            )


def own_size(model: TargetModel) -> int:
    """The size of the model's vocabulary."""
    return max(model.vocabulary.values()) + 1


class CountedClient(Client):
    """A client that counts its requests."""

    num_requests = 0

    async def post(self, path: str, body: object) -> object:  # type: ignore[override]
        self.num_requests += 1
        return await super().post(path, body)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Options:
    """What is measured."""

    sessions: list[int]
    past: int
    new: int
    runs: int
    noise: float
    threads: int


def main() -> None:
    """Start the server, and compare."""
    parser = command_parser("benchmarks.vllm_verification", __doc__)
    parser.add_argument(
        "--vllm", type=Path, required=True, help="where tests/support/install-vllm installed it"
    )
    parser.add_argument("--model", required=True, help="a model's folder; the head size must be at least 32")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 8], help="numbers of sessions")
    parser.add_argument("--past", type=int, default=200, help="tokens before the first draft")
    parser.add_argument("--new", type=int, default=4, help="tokens in a draft")
    parser.add_argument("--runs", type=int, default=9, help="runs of each engine")
    parser.add_argument("--noise", type=float, default=0.7, help="spread of the noise on the draft's logits")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each engine")
    given = parser.parse_args()
    options = Options(given.sessions, given.past, given.new, given.runs, given.noise, given.threads)
    with TemporaryDirectory() as folder:
        server = VllmServer(
            given.vllm.absolute(), Path(given.model), Path(folder), num_threads=options.threads
        )
        with server:
            asyncio.run(measure(server.url, given.model, options))


if __name__ == "__main__":
    main()
