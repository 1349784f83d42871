"""Measure what grammars cost: masks beside the draft model's run, and passes of a worker with and without.

    python -m benchmarks.grammar_costs --draft FOLDER ... --target FOLDER ... [--page]

For each draft model: loading the engine, compiling each schema, then tokens of random answers that fit it.
Per token, one after the other: a run of the draft model, the mask (following the text and asking what may
follow), and forbidding the rest in its logits. "forced" is the share of tokens that are the only ones
allowed, which need no run. For each target model: `--sessions` sessions with a block of `--new` tokens per
pass (`TargetModel.verify`), with a grammar and without, in turn. The blocks are what the target samples
itself, so all of them are accepted. Printed are medians, and the median ratio of neighbours: below 1,
grammars cost throughput.
"""

import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.scheduling.batch import Batch
from cloud_worker.scheduling.fair_queue import SessionKey
from cloud_worker.scheduling.task import Task
from cloud_worker.session.job import Job
from cloud_worker.session.judging import judge
from cloud_worker.session.session import CloudSession, Target
from cloud_worker.target_model import TargetModel
from common.grammar.answer import AnswerMasks
from common.grammar.engine import GrammarEngine
from common.grammar.matcher import Matcher
from common.process.paths import path_flag
from common.protocol.grammar import Grammar
from common.protocol.messages import Draft, DraftToken, Opening
from common.sampling.distribution import Sampling, fit_vocabulary
from common.sampling.mask import forbid, only_token, unpack
from edge_agent.draft_model.draft_model import DraftModel
from evaluation.help_format import command_parser
from evaluation.reporting.results import RESULTS, header, write_section

ACTION = {
    "type": "object",
    "properties": {
        "device": {"enum": ["light", "fan", "blinds", "tv", "heating"]},
        "room": {"enum": ["kitchen", "living_room", "bedroom", "hall"]},
        "action": {"enum": ["on", "off", "open", "close", "brightness"]},
        "value": {"type": "integer", "minimum": 0, "maximum": 100},
    },
    "required": ["device", "room", "action"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, object] = {
    "actions": {"type": "array", "minItems": 4, "maxItems": 9, "items": ACTION},
    "strings": {
        "type": "array",
        "minItems": 4,
        "items": {"type": "string", "minLength": 20, "maxLength": 60},
    },
    "any JSON": {"type": "array", "minItems": 9},
}
HEADER = (
    f"{'schema':10} {'compile':>8} {'run':>7} {'mask':>7} {'p99':>7} {'forbid':>7} {'share':>6} {'forced':>7}"
)
TEXT = 120  # tokens of an answer
NUM_TEXTS = 3


@dataclass(slots=True)
class Times:
    """Milliseconds per token."""

    run: list[float]
    mask: list[float]
    forbid: list[float]
    num_forced: int = 0


def main() -> None:
    """Print all tables."""
    parser = command_parser("benchmarks.grammar_costs", "Measures what grammars cost at both ends.")
    parser.add_argument("--draft", type=path_flag, nargs="*", default=[Path("edge_agent/demo_model")])
    parser.add_argument("--target", type=str, nargs="*", default=["demo"])
    parser.add_argument("--sessions", type=int, default=16)
    parser.add_argument("--new", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--page", action="store_true", help="write them into docs/results too")
    flags = parser.parse_args()
    text = [line for folder in flags.draft for line in _device(folder)]
    text += [line for name in flags.target for line in _worker(name, flags.sessions, flags.new, flags.rounds)]
    if flags.page:
        lines = "\n".join(text).strip("\n")
        page = f"{header('python -m benchmarks.grammar_costs')}\n\n```\n{lines}\n```"
        write_section(RESULTS / "structured-output.md", "costs", page)


def _device(folder: Path) -> Iterator[str]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = DraftModel.load(folder)
    before, began = _resident(), time.perf_counter()
    engine = GrammarEngine(lambda: tokenizer)
    name = engine.name
    yield _said(
        f"\n{folder.name}: {name}, loaded in {time.perf_counter() - began:.2f} s, "
        f"{_resident() - before:.0f} MiB"
    )
    yield _said(f"{HEADER}   (times in ms per token)")
    for label, schema in SCHEMAS.items():
        began = time.perf_counter()
        engine.compile(Grammar.json_schema(schema))  # type: ignore[arg-type]
        compiled = 1000 * (time.perf_counter() - began)
        times = Times([], [], [])
        for seed in range(NUM_TEXTS):
            _answer(model, engine.compile(Grammar.json_schema(schema)), seed, times)  # type: ignore[arg-type]
        run, mask, last = (statistics.median(one) for one in (times.run, times.mask, times.forbid))
        p99 = float(np.quantile(times.mask, 0.99))
        forced = times.num_forced / len(times.mask)
        yield _said(
            f"{label:10} {compiled:8.2f} {run:7.2f} {mask:7.3f} {p99:7.3f} {last:7.3f} "
            f"{(mask + last) / run:6.1%} {forced:7.0%}"
        )


def _answer(model: DraftModel, matcher: Matcher, seed: int, times: Times) -> None:
    """Write a random answer of `TEXT` tokens, and time each."""
    rng, prompt, tokens = np.random.default_rng(seed), [5] * 64, list[int]()
    for _ in range(TEXT):
        began = time.perf_counter()
        logits = model.logits(prompt + tokens)
        ran = time.perf_counter()
        allowed = matcher.allowed(tokens)
        asked = time.perf_counter()
        assert allowed is not None
        mask, _ = allowed
        if not mask.any():
            return
        size = min(len(logits), 32 * len(mask))
        row = forbid(fit_vocabulary(logits, size), mask)
        done = time.perf_counter()
        times.run.append(1000 * (ran - began))
        times.mask.append(1000 * (asked - ran))
        times.forbid.append(1000 * (done - asked))
        times.num_forced += only_token(mask) is not None
        tokens.append(int(rng.choice(np.flatnonzero(unpack(mask, len(row))))))


# -- a worker --------------------------------------------------------------------------------------------


class Session:
    """One text of the target, in blocks; with a grammar or without."""

    def __init__(
        self, model: TargetModel, number: int, grammar: Grammar | None, engine: GrammarEngine
    ) -> None:
        size = max(model.vocabulary.values()) + 1
        rng = np.random.default_rng(number)
        self.opening = Opening(bytes(8), size, Sampling(0.7), seed=number)
        self.tokens = rng.integers(5, size // 2, 150 + number).tolist()
        self.key = SessionKey(f"grammar {grammar is not None}", str(number))
        self.masks = None
        if grammar is not None:
            ends = sorted(model.eos_ids) or [0]
            self.masks = AnswerMasks(engine.compile(grammar), len(self.tokens), ends, closing=ends[0])
        self._model = model

    def write(self, count: int) -> None:
        """Let the target append as many tokens, one by one."""
        for _ in range(count):
            job = Job(self.opening, (), tuple(self.tokens), 1, self.masks)
            (rows,) = self._model.logits([Pass(self.key, job.tokens, 1)])
            token = judge(job, rows)[0].verdict.token
            assert token is not None
            self.tokens.append(token)

    def jobs(self, length: int, num_rounds: int) -> Iterator[Job]:
        """What verifies the last `num_rounds` blocks that were written, in order."""
        start = len(self.tokens) - length * num_rounds
        for n in range(num_rounds):
            begin, end = start + n * length, start + (n + 1) * length
            block = tuple(map(DraftToken, self.tokens[begin:end]))
            draft = Draft(n, 0, begin, (), block, bonus=1)
            yield Job(self.opening, (draft,), tuple(self.tokens[:end]), length + 1, self.masks)


def _worker(name: str, num_sessions: int, length: int, num_rounds: int) -> Iterator[str]:
    model = TargetModel.load(name)
    engine = GrammarEngine(model.tokenizer)
    grammar = Grammar.json_schema(SCHEMAS["actions"] | {"minItems": 60, "maxItems": 90})  # type: ignore[operator]
    kinds = {
        kind: [Session(model, number, kind, engine) for number in range(num_sessions)]
        for kind in (None, grammar)
    }
    for sessions in kinds.values():
        for session in sessions:
            session.write(length * (num_rounds + 1))
    seconds: dict[Grammar | None, list[float]] = {kind: [] for kind in kinds}
    rounds = {
        kind: zip(*(one.jobs(length, num_rounds + 1) for one in sessions), strict=True)
        for kind, sessions in kinds.items()
    }
    for _ in range(num_rounds + 1):
        for kind in kinds:
            batch = _batch(next(rounds[kind]), has_grammar=kind is not None)
            began = time.perf_counter()
            verified = model.verify(batch)
            seconds[kind].append(time.perf_counter() - began)
            for part in verified.parts:
                assert isinstance(part.outcome, list)
                assert part.outcome[0].verdict.num_accepted == length
    plain, masked = (seconds[kind][1:] for kind in (None, grammar))  # the first of each reads the prompts
    ratio = statistics.median(one / other for one, other in zip(plain, masked, strict=True))
    yield _said(
        f"\n{Path(name).name}, {num_sessions} sessions, {length} tokens per block: "
        f"{1000 * statistics.median(plain):.1f} ms per pass without grammars, "
        f"{1000 * statistics.median(masked):.1f} ms with; throughput {ratio:.1%}"
    )


def _batch(jobs: Sequence[Job], *, has_grammar: bool) -> Batch:
    """One batch of jobs, each of a session of its own."""
    target = Target("w", b"", jobs[0].opening.vocab_size, 1 << 20)
    keys = [SessionKey(f"grammar {has_grammar}", str(number)) for number in range(len(jobs))]
    tasks = [Task(key, CloudSession(target), job) for key, job in zip(keys, jobs, strict=True)]
    passes = [Pass(key, job.tokens, job.num_rows) for key, job in zip(keys, jobs, strict=True)]
    return Batch(tasks, passes, passes, [one.num_rows for one in passes])


def _said(line: str) -> str:
    print(line, flush=True)
    return line


def _resident() -> float:
    """The memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


if __name__ == "__main__":
    main()
