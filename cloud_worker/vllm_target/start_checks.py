"""What is checked of a vLLM server before it serves as target model, and after each lost connection.

Law: nothing inexact is served. The checks try what the verification builds on, by a known prompt: that
probabilities are those after temperature and filters and sum to 1, that samples follow the seed, and that the
server's tokens are those of the tokenizer at hand.
"""

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from tokenizers import Tokenizer

from cloud_worker.engines.engine import EngineError
from cloud_worker.vllm_target.client import Client, RefusedError
from cloud_worker.vllm_target.http_api import MAX_IDS_AT_ONCE, AnswerError, request
from cloud_worker.vllm_target.model_folder import ModelFolder
from cloud_worker.vllm_target.questions import Question
from common.protocol.fingerprint import fingerprint
from common.sampling.distribution import Sampling

LEAST_VERSION = (0, 32)  # the first that was tested
PLAIN = Sampling()
HOT = Sampling(temperature=2.0)
GREEDY = Sampling(temperature=0.0)
TOLERANCE = 1e-3  # of a sum of probabilities
MOVED = 0.05  # by which a probability may differ between two requests: bfloat16 rounds by the batch
LOG_MOVED = 0.2  # the same of a logarithm
LEAST = 1e-30  # a probability with a logarithm to compare
PADDING_MASS = 1e-9  # that the ids beyond the vocabulary may have without being excluded
MAX_PADDING = 1024  # ids beyond the vocabulary that are excluded: each request names them
NUM_TOP = 5
NUM_SAMPLES = 16
SEEDS = (11, 12)
DETOKENIZED_AT_ONCE = 8192
MODE = "start vLLM with --logprobs-mode processed_logprobs"


@dataclass(frozen=True, slots=True)
class Served:
    """A server that has passed the checks."""

    version: str
    model: str
    max_positions: int


async def check(client: Client, wanted: str, folder: ModelFolder) -> Served:
    """Check the server, and name its model in `client`; EngineError, or EngineLostError if it is away.

    `wanted` is the name of the model to use ("": the only one served).
    """
    try:
        return await _check(client, wanted, folder)
    except RefusedError as error:
        raise EngineError(f"the server refuses what this engine needs: {error}") from error
    except AnswerError as error:
        raise EngineError(f"{error}: {MODE}, version 0.32 or newer") from error


async def _check(client: Client, wanted: str, folder: ModelFolder) -> Served:
    version = _version(await client.get("/version"))
    model = _model(await client.get("/v1/models"), wanted)
    client.model, client.padding = str(model["id"]), ()
    limit = model.get("max_model_len")
    if type(limit) is not int or limit < 2:
        raise EngineError(f"the server does not report max_model_len of {client.model}: ask vLLM itself")
    await _check_tokenizer(client, folder.tokenizer)
    vocabulary = folder.vocabulary
    width = await _width(client, _prompt(vocabulary))
    if width is not None and width <= max(vocabulary.values()):
        raise EngineError(
            f"{client.model} has logits for {width} tokens, but its tokenizer has "
            f"{max(vocabulary.values()) + 1}: set `model` to the folder of the served model"
        )
    size = max(vocabulary.values()) + 1
    client.padding = await _Probe(client, _prompt(vocabulary)).run(range(size, width or size))
    return Served(version, client.model, limit)


def _version(answer: object) -> str:
    """The version; EngineError for one that is too old. Builds from source may call themselves 0.1.dev1."""
    found = str(cast("Mapping[str, object]", answer).get("version", "")) if isinstance(answer, dict) else ""
    if not found:
        raise EngineError("the server does not report a version at /version: is it vLLM?")
    numbers = re.match(r"(\d+)\.(\d+)", found)
    if numbers and "dev" not in found and (int(numbers[1]), int(numbers[2])) < LEAST_VERSION:
        raise EngineError(f"vLLM {found} is too old for this engine: update it to 0.32 or newer")
    return found


def _model(answer: object, wanted: str) -> Mapping[str, Any]:
    listed = cast("Mapping[str, Any]", answer).get("data", []) if isinstance(answer, dict) else []
    models = {str(one["id"]): cast("Mapping[str, Any]", one) for one in listed if isinstance(one, dict)}
    if wanted and wanted not in models:
        raise EngineError(f"the server has no model {wanted}: set `engine_model` to one of {_names(models)}")
    if wanted:
        return models[wanted]
    base = {name: one for name, one in models.items() if not one.get("parent")}  # no adapters
    if len(base) != 1:
        raise EngineError(f"the server has {len(base)} models: set `engine_model` to one of {_names(models)}")
    return next(iter(base.values()))


def _names(models: Mapping[str, object]) -> str:
    return ", ".join(sorted(models)) or "those it will serve"


async def _check_tokenizer(client: Client, tokenizer: Tokenizer) -> None:
    """Every id must stand for the same text at the server as in the tokenizer at hand."""
    ids = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
    for start in range(0, len(ids), DETOKENIZED_AT_ONCE):
        piece = ids[start : start + DETOKENIZED_AT_ONCE]
        answer = await client.post("/detokenize", {"model": client.model, "tokens": piece})
        if not isinstance(answer, dict):
            raise EngineError("the server has no /detokenize to compare tokenizers with: ask vLLM itself")
        if cast("Mapping[str, object]", answer).get("prompt") != tokenizer.decode(
            piece, skip_special_tokens=False
        ):
            known = fingerprint(tokenizer.get_vocab(with_added_tokens=True)).hex()
            raise EngineError(
                f"{client.model} has other tokens than the tokenizer of `model` (fingerprint {known}): set "
                "`model` to the folder of the served model"
            )


async def _width(client: Client, prompt: Sequence[int]) -> int | None:
    """How many logits the model has, as the refusal of an id beyond them names it; None if it does not."""
    beyond = (1 << 31) - 1
    body = request(client.model, prompt, Question(len(prompt), PLAIN, 1, (beyond,)), (beyond,))
    try:
        await client.post("/v1/completions", body)
    except RefusedError as error:
        found = re.search(r"[Vv]ocabulary size: (\d+)", str(error))
        return int(found[1]) if found else None
    raise EngineError("the server ignores logprob_token_ids: update vLLM to 0.32 or newer")


def _prompt(vocabulary: Mapping[str, int]) -> list[int]:
    """A few tokens from all over the vocabulary."""
    ids = sorted(vocabulary.values())
    return [ids[(2 * index + 1) * len(ids) // 16] for index in range(8)]


def _ratios(probs: Sequence[float]) -> list[float]:
    """The logarithms of probabilities over the first one."""
    return [math.log(max(prob, LEAST) / max(probs[0], LEAST)) for prob in probs]


class _Probe:
    """Questions about one prompt, whose answers are known in part."""

    def __init__(self, client: Client, prompt: Sequence[int]) -> None:
        self._client = client
        self._prompt = list(prompt)

    async def run(self, padding: range) -> tuple[int, ...]:
        """Raise EngineError for the first answer that is not as it should be; returns the ids to exclude."""
        (best,) = await self._most_probable(1)
        ids = tuple(dict.fromkeys((best, *self._prompt)))
        plain = await self._probs(PLAIN, ids)
        if plain[0] < LEAST or max(plain) > plain[0] * (1 + MOVED):
            raise EngineError(f"the server's most probable token is not the one that it chooses: {MODE}")
        excluded, *_ = await asyncio.gather(  # a slow server answers them together
            self._to_exclude(padding),
            self._check_temperature(ids, plain),
            self._check_filters(ids),
            self._check_penalty(ids, plain),
            self._check_samples(best),
        )
        return excluded

    async def _check_temperature(self, ids: tuple[int, ...], plain: Sequence[float]) -> None:
        hot = await self._probs(HOT, ids)
        for cold_ratio, hot_ratio in zip(_ratios(plain), _ratios(hot), strict=True):
            if abs(cold_ratio - HOT.temperature * hot_ratio) > LOG_MOVED:
                raise EngineError(f"the server's probabilities do not follow the temperature: {MODE}")

    async def _check_filters(self, ids: tuple[int, ...]) -> None:
        """With one token left its probability is 1; with a few, they sum to 1 and keep their proportions."""
        narrow = (replace(PLAIN, top_k=1), replace(PLAIN, top_p=1e-6), replace(PLAIN, min_p=1.0))
        for probs in await asyncio.gather(*(self._probs(sampling, ids) for sampling in narrow)):
            if abs(probs[0] - 1.0) > TOLERANCE:
                raise EngineError(f"the server's probabilities do not follow top_k, top_p and min_p: {MODE}")
        few = replace(PLAIN, top_k=NUM_TOP)
        kept = await self._most_probable(NUM_TOP)
        probs = await self._probs(few, kept)
        unfiltered = await self._probs(PLAIN, kept)
        scale = sum(unfiltered)
        if abs(sum(probs) - 1.0) > TOLERANCE or any(
            abs(one * scale - other) > MOVED for one, other in zip(probs, unfiltered, strict=True)
        ):
            raise EngineError(f"the server's probabilities do not sum to 1: {MODE}")

    async def _check_penalty(self, ids: tuple[int, ...], plain: Sequence[float]) -> None:
        """The prompt's tokens are penalised."""
        probs = await self._probs(replace(PLAIN, repetition_penalty=3.0), ids)
        changes = [abs(one - other) for one, other in zip(_ratios(probs), _ratios(plain), strict=True)]
        if max(changes) <= LOG_MOVED:
            raise EngineError(f"the server's probabilities do not follow repetition_penalty: {MODE}")

    async def _check_samples(self, best: int) -> None:
        """Samples follow the seed alone, differ between seeds, and avoid what they should."""
        seeds = (SEEDS[0], *SEEDS)
        first, again, other = await asyncio.gather(*(self._samples(HOT, seed) for seed in seeds))
        if first != again:
            raise EngineError("the server's samples do not follow the seed: switch speculative decoding off")
        if first == other and len(set(first)) > 1:
            raise EngineError("the server's samples do not differ between seeds: update vLLM")
        if best in await self._samples(PLAIN, SEEDS[0], avoided=(best,)):
            raise EngineError(
                "the server's samples do not follow logit_bias: switch speculative decoding off"
            )

    async def _to_exclude(self, padding: range) -> tuple[int, ...]:
        """The ids beyond the vocabulary, if they have a probability; EngineError if they are too many.

        The torch engine cuts them off before any filter. Here a bias excludes them, to the same effect.
        """
        looked_at = padding[:MAX_PADDING]
        starts = range(0, len(looked_at), MAX_IDS_AT_ONCE)
        pieces = [looked_at[start : start + MAX_IDS_AT_ONCE] for start in starts]
        mass = sum(map(sum, await asyncio.gather(*(self._probs(PLAIN, piece) for piece in pieces))))
        if mass <= PADDING_MASS:
            return ()
        if len(padding) > MAX_PADDING:
            raise EngineError(
                f"{len(padding)} ids beyond the vocabulary have a probability of {mass:.2g} or more: this "
                "model cannot be verified exactly over the server's API"
            )
        return tuple(padding)

    async def _most_probable(self, count: int) -> tuple[int, ...]:
        """The most probable ids, one after the other: a list of them is wrong beside our own requests.

        vLLM 0.32 answers `logprobs` with the sampled token alone in a batch that has `logprob_token_ids`.
        """
        found: list[int] = []
        for _ in range(count):
            question = replace(self._question(GREEDY), avoided=tuple(found))
            found.append((await self._client.ask(self._prompt, question)).samples[0])
        return tuple(found)

    async def _probs(self, sampling: Sampling, ids: Sequence[int]) -> Sequence[float]:
        question = replace(self._question(sampling), ids=tuple(ids))
        return (await self._client.ask(self._prompt, question)).probs

    async def _samples(self, sampling: Sampling, seed: int, avoided: tuple[int, ...] = ()) -> tuple[int, ...]:
        question = Question(len(self._prompt), sampling, seed, (), NUM_SAMPLES, avoided)
        return (await self._client.ask(self._prompt, question)).samples

    def _question(self, sampling: Sampling) -> Question:
        return Question(len(self._prompt), sampling, SEEDS[0])
