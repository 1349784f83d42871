"""Measure what grammars cost: masks beside the draft model's run, and passes of a worker with and without.

    python -m benchmarks.grammar_costs --draft FOLDER ... --target FOLDER ...

For each draft model: loading the engine, compiling each schema, then tokens of random answers that fit it.
Per token, one after the other: a run of the draft model, the mask (following the text and asking what may
follow), and forbidding the rest in its logits. "forced" is the share of tokens that are the only ones
allowed, which need no run. For each target model: `--sessions` sessions with a block of `--new` tokens per
pass, with a grammar and without, in turn. The blocks are what the target samples itself, so all of them are
accepted. Printed are medians, and of the passes the median ratio of neighbours: below 1, grammars cost
throughput.
"""

import resource
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.session.job import Job
from cloud_worker.session.judging import judge
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
    parser.add_argument("--rounds", type=int, default=12)
    flags = parser.parse_args()
    for folder in flags.draft:
        _device(folder)
    for name in flags.target:
        _worker(name, flags.sessions, flags.new, flags.rounds)


def _device(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = DraftModel.load(folder)
    before, began = _resident(), time.perf_counter()
    engine = GrammarEngine(lambda: tokenizer)
    name = engine.name
    print(
        f"\n{folder.name}: {name}, loaded in {time.perf_counter() - began:.2f} s, "
        f"{_resident() - before:.0f} MiB"
    )
    print(f"{HEADER}   (times in ms per token)")
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
        print(
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
        self.key = (number, grammar is not None)
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


def _worker(name: str, num_sessions: int, length: int, num_rounds: int) -> None:
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
    seconds: dict[Grammar | None, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    rounds = {
        kind: zip(*(one.jobs(length, num_rounds + 1) for one in sessions), strict=True)
        for kind, sessions in kinds.items()
    }
    for _ in range(num_rounds + 1):
        for kind in kinds:
            jobs = next(rounds[kind])
            began = time.perf_counter()
            rows = model.logits(
                [Pass((i, kind is not None), job.tokens, job.num_rows) for i, job in enumerate(jobs)]
            )
            ran = time.perf_counter()
            verdicts = [judge(job, row)[0].verdict for job, row in zip(jobs, rows, strict=True)]
            seconds[kind].append((ran - began, time.perf_counter() - ran))
            assert all(verdict.num_accepted == length for verdict in verdicts)
    plain, masked = (seconds[kind][1:] for kind in (None, grammar))  # the first of each reads the prompts
    ratios = [sum(one) / sum(other) for one, other in zip(plain, masked, strict=True)]
    print(
        f"\n{Path(name).name}, {num_sessions} sessions, {length} tokens per block, milliseconds per pass: "
        f"forward {1000 * statistics.median(one for one, _ in plain):.1f} and "
        f"{1000 * statistics.median(one for one, _ in masked):.1f}, judging without grammars "
        f"{1000 * statistics.median(one for _, one in plain):.2f}, with grammars "
        f"{1000 * statistics.median(one for _, one in masked):.2f}; "
        f"throughput with grammars {statistics.median(ratios):.1%} of that without"
    )


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
