"""The four measurements, each with its broker and worker: what runs beside what, and what is kept.

Law: a finished part is kept in `finished` under a key with everything that it depends on, and never measured
twice. Models are loaded only for parts that are missing, and one measurement's are gone before the next.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common.sampling.distribution import Sampling
from edge_agent.agent import EdgeAgent
from edge_agent.assembly import choose_sampling
from edge_agent.config import AgentConfig
from edge_agent.draft_model.files import read_info
from edge_agent.draft_model.source import resolve
from edge_agent.text.tokenizer import Text
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from evaluation.models.pair import load_pair
from evaluation.real_models import exactness
from evaluation.real_models.answering import (
    CLOUD_TIMEOUT,
    GREEDY,
    MAX_TOKENS,
    MOST_TOKENS,
    VARIANTS,
    Answer,
    answers,
)
from evaluation.real_models.association import Association, associate_pair
from evaluation.real_models.peers import ASSISTED, assisted, llama_answers
from evaluation.real_models.problems import Problem
from evaluation.real_models.reference import greedy_texts, up_to_end
from evaluation.real_models.scoring import is_right
from evaluation.real_models.speeds import Timed, Way, agent_way, peer_way, take_turns
from evaluation.reporting.finished import Finished

LLM = "llm"
OWN, GREEDY_NAME = "the model's own", "greedy"
SPEED_TOKENS = 48
SPEED_RISK = 0.02
EXACT_TOKENS = 200
FIT_SCHEMES = ("lossless", "opportunistic")  # `fit` verifies every token, certain ones too
FIT_TOKENS = 48  # of an answer, among which the least certain place is tested
REFERENCE_BATCH = 25
NUM_AGENTS = 4  # of a scheme: their texts share the passes of the worker


@dataclass(frozen=True, slots=True)
class Models:
    """What is measured: names or folders as an agent, a worker and the other engines take them."""

    draft: str
    target: str
    dtype: str
    num_threads: int  # of the worker and of each other engine; the draft model has one
    original: str | None = None  # of the draft model, for transformers
    gguf: tuple[Path, ...] = ()  # target and draft, for llama.cpp

    def text(self) -> Text:
        """Return the draft model's tokenizer."""
        return Text.load(read_info(resolve(self.draft)))

    def eos_ids(self) -> frozenset[int]:
        """Return the draft model's end tokens."""
        return read_info(resolve(self.draft)).eos_ids

    def worker(self, broker: LocalBroker, dtype: str | None = None) -> LocalWorker:
        """Return a worker with the target, not started yet."""
        flags = ("--model", self.target, "--dtype", dtype or self.dtype, "--num-threads")
        return LocalWorker(broker.url, *flags, str(self.num_threads))


def bar(total: int, name: str) -> "tqdm[Any]":
    """Return a progress bar on stderr."""
    return tqdm(total=total, desc=name, file=sys.stderr, mininterval=5.0)


# -- tasks ---------------------------------------------------------------------------------------------


def tasks(
    models: Models, problems: Mapping[str, Sequence[Problem]], finished: Finished
) -> dict[str, dict[str, list[Answer]]]:
    """Answer all problems in all variants; the result is by task and variant."""
    keys = {
        (kind, variant.name): _key("task", kind, variant.name, *(one.name for one in some))
        for kind, some in problems.items()
        for variant in VARIANTS
    }
    for kind, some in problems.items():
        _know_target_alone(models, kind, some, finished)
    if any(finished.get(key) is None for key in keys.values()):
        with LocalBroker() as broker, models.worker(broker):
            asyncio.run(_answer_all(models, problems, finished, keys, broker.url))
    found: dict[str, dict[str, list[Answer]]] = {}
    for kind, some in problems.items():
        found[kind] = {
            name: [Answer.from_json(values) for values in finished.get(keys[kind, name]) or ()]
            for name in (each.name for each in VARIANTS)
        }
        alone = finished.get(_target_key(kind, some)) or ()
        found[kind][LLM] = [Answer.from_json(values) for values in alone]
    return found


async def _answer_all(
    models: Models,
    problems: Mapping[str, Sequence[Problem]],
    finished: Finished,
    keys: Mapping[tuple[str, str], str],
    broker_url: str,
) -> None:
    missing = [place for place, key in keys.items() if finished.get(key) is None]
    with bar(sum(len(problems[kind]) for kind, _ in missing), "answers") as shown:

        async def one(kind: str, name: str) -> None:
            variant = next(each for each in VARIANTS if each.name == name)
            config = variant.config(kind, models.draft, broker_url)
            done = await answers(config, problems[kind], shown.update)
            finished.add(keys[kind, name], [each.to_json() for each in done])

        async def all_kinds(name: str) -> None:
            for kind in problems:
                if (kind, name) in missing:
                    await one(kind, name)

        await asyncio.gather(*(all_kinds(each.name) for each in VARIANTS))


def _target_key(kind: str, problems: Sequence[Problem]) -> str:
    return _key("target alone", kind, *(one.name for one in problems))


def _know_target_alone(models: Models, kind: str, problems: Sequence[Problem], finished: Finished) -> None:
    if finished.get(_target_key(kind, problems)) is not None:
        return
    text, eos_ids = models.text(), models.eos_ids()
    prompts = [text.encode(one.prompt) if one.is_raw else chat(text, one.prompt) for one in problems]
    with bar(len(problems), f"{kind}, target alone") as shown:
        written = greedy_texts(
            models.target, prompts, MAX_TOKENS.get(kind, MOST_TOKENS), eos_ids,
            dtype=models.dtype, batch=REFERENCE_BATCH, num_threads=models.num_threads, progress=shown.update,
        )  # fmt: skip
    done = [
        Answer(one.name, is_right(one, answer), len(tokens), text=answer)
        for one, tokens in zip(problems, written, strict=True)
        for answer in [text.decode([token for token in tokens if token not in eos_ids])]
    ]
    finished.add(_target_key(kind, problems), [each.to_json() for each in done])


def chat(text: Text, prompt: str) -> list[int]:
    """Return the tokens of a user's message, as an agent makes them."""
    if text.has_chat_template:
        return text.chat_prompt([{"role": "user", "content": prompt}])
    return text.encode(prompt)


# -- exactness -----------------------------------------------------------------------------------------


def greedy(models: Models, prompts: Sequence[str], finished: Finished) -> dict[str, tuple[int, int, int]]:
    """Compare greedy texts in float32; returns (equal texts, texts, tokens) per scheme."""
    key = _key("greedy", str(EXACT_TOKENS), *prompts)
    due = _targets_own(models, prompts, EXACT_TOKENS, "float32", f"{key} target", finished)
    missing = [each for each in exactness.EXACT if finished.get(f"{key} {each}") is None]
    if missing:
        with LocalBroker() as broker, models.worker(broker, "float32"):
            asyncio.run(_greedy(models, prompts, missing, key, finished, broker.url))
    num_tokens, eos_ids = sum(map(len, due)), models.eos_ids()
    same: dict[str, tuple[int, int, int]] = {}
    for scheme in exactness.EXACT:
        ours: list[list[int]] = finished.get(f"{key} {scheme}") or []
        equal = sum(up_to_end(one, eos_ids) == other for one, other in zip(ours, due, strict=True))
        same[scheme] = (equal, len(due), num_tokens)
    return same


def _targets_own(
    models: Models, prompts: Sequence[str], num_tokens: int, dtype: str, key: str, finished: Finished
) -> list[list[int]]:
    if finished.get(key) is None:
        text = models.text()
        with bar(len(prompts), "target's own greedy texts") as shown:
            due = greedy_texts(
                models.target, [chat(text, one) for one in prompts], num_tokens, models.eos_ids(),
                dtype=dtype, batch=REFERENCE_BATCH, num_threads=models.num_threads, progress=shown.update,
            )  # fmt: skip
        finished.add(key, due)
    return finished.get(key) or []


async def _greedy(
    models: Models, prompts: Sequence[str], missing: Sequence[str], key: str, finished: Finished, broker: str
) -> None:
    with bar(len(prompts) * len(missing), "greedy texts") as shown:

        async def one(scheme: str) -> None:
            some = -(-len(prompts) // NUM_AGENTS)
            parts = await asyncio.gather(
                *(
                    exactness.greedy_tokens(
                        scheme,
                        models.draft,
                        broker,
                        prompts[first : first + some],
                        EXACT_TOKENS,
                        shown.update,
                    )
                    for first in range(0, len(prompts), some)
                )
            )
            finished.add(f"{key} {scheme}", [tokens for part in parts for tokens in part])

        await asyncio.gather(*(one(scheme) for scheme in missing))


def sampled(models: Models, prompts: Sequence[str], finished: Finished) -> list[exactness.Fit]:
    """Test sampled tokens where the target is the least certain in its own greedy answers."""
    key = _key("chi-square", *prompts)
    answers_key = _key("greedy", str(FIT_TOKENS), *prompts)
    texts = _targets_own(models, prompts, FIT_TOKENS, models.dtype, answers_key, finished)
    if finished.get(key) is None:
        with load_pair(
            models.draft, models.target, dtype=models.dtype, num_threads=models.num_threads
        ) as pair:
            own = choose_sampling(AgentConfig(), pair.info.sampling)
            made: list[exactness.Fit] = []
            for number, (prompt, answer) in enumerate(zip(prompts, texts, strict=True), 1):
                tokens = pair.prompt(prompt)
                for named in ((OWN, own), ("temperature 1", Sampling(1.0))):
                    place = exactness.least_certain(pair, tokens, answer, named[1])
                    made += [
                        exactness.fit(pair, scheme, number, tokens, answer[:place], named)
                        for scheme in FIT_SCHEMES
                    ]
        finished.add(key, [asdict(each) for each in made])
    return [exactness.Fit(**values) for values in finished.get(key) or ()]


# -- speed ---------------------------------------------------------------------------------------------


def speed(models: Models, prompts: Mapping[str, Sequence[str]], finished: Finished) -> dict[str, list[Timed]]:
    """Let all ways answer in turns, greedily and at the model's own sampling; the result is by sampling."""
    asked = [one for some in prompts.values() for one in some]
    keys = {name: _key("speed", name, str(models), *asked) for name in (GREEDY_NAME, OWN)}
    missing = [name for name, key in keys.items() if finished.get(key) is None]
    if missing:
        with LocalBroker() as broker, models.worker(broker) as worker:
            for name in missing:
                timed = asyncio.run(_timed(models, name, prompts, broker.url, worker.pid))
                finished.add(keys[name], [each.to_json() for each in timed])
    return {
        name: [Timed.from_json(values) for values in finished.get(key) or ()] for name, key in keys.items()
    }


async def _timed(
    models: Models, name: str, prompts: Mapping[str, Sequence[str]], broker_url: str, worker_pid: int
) -> list[Timed]:
    sampling = GREEDY if name == GREEDY_NAME else {}
    schemes: dict[str, dict[str, Any]] = {
        LLM: {"scheme": LLM},
        "lossless": {"scheme": "lossless"},
        f"opportunistic, risk {SPEED_RISK:g}": {"scheme": "opportunistic", "risk": SPEED_RISK},
    }
    async with AsyncExitStack() as stack:
        ways: dict[str, Way] = {}
        for way, scheme in schemes.items():
            config = AgentConfig(
                model=models.draft, broker=broker_url, max_tokens=SPEED_TOKENS, num_threads=1,
                cloud_timeout=CLOUD_TIMEOUT, **scheme, **sampling,
            )  # fmt: skip
            agent = await stack.enter_async_context(EdgeAgent.open(config))
            ways[way] = agent_way(way, agent, worker_pid)
        if name == GREEDY_NAME:
            ways |= _peers(models)
        with bar(len(ways) * sum(map(len, prompts.values())), f"answers, {name}") as shown:
            return await take_turns(ways, prompts, shown.update)


def _peers(models: Models) -> dict[str, Way]:
    text = models.text()

    def encode(prompt: str) -> Sequence[int]:
        return chat(text, prompt)

    found = dict[str, Any]()
    if models.original is not None:
        found[ASSISTED] = assisted(
            models.target, models.original, models.dtype, encode, SPEED_TOKENS, models.num_threads
        )
    if models.gguf:
        target, *draft = models.gguf
        found |= llama_answers(target, draft[0] if draft else None, encode, SPEED_TOKENS, models.num_threads)
    return {way: peer_way(way, answer) for way, answer in found.items()}


# -- calibration ---------------------------------------------------------------------------------------


def calibration(models: Models, prompts: Sequence[str], finished: Finished) -> Association:
    """Let the target judge the draft model's own texts."""
    key = _key("calibration", *prompts)
    if finished.get(key) is None:
        threads = models.num_threads
        with (
            load_pair(
                models.draft, models.target, dtype=models.dtype, num_threads=threads, keeps_penalties=True
            ) as pair,
            bar(len(prompts), "texts judged") as shown,
        ):
            finished.add(key, associate_pair(pair, prompts, shown.update).to_json())
    return Association.from_json(finished.get(key) or {})


def _key(*parts: str) -> str:
    return "\0".join(parts)
