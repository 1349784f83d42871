"""A small server with the API of vLLM that the engine uses, and a model of random logits.

It shows what happens when a server is away, is another one than before, or computes otherwise than it should.
`make test-vllm` has the real one.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
from aiohttp import web
from tokenizers import Tokenizer

from common.sampling.distribution import Sampling, warp
from common.sampling.penalties import Penalties
from common.sampling.randomness import FloatArray
from evaluation.local.broker import free_port

VOCAB_SIZE = 1280  # of the demo pair's tokenizer


@dataclass
class FakeVllm:
    """`async with FakeVllm(tokenizer) as server: server.url ...`; what it does may be changed meanwhile."""

    tokenizer: Tokenizer
    version: str = "0.32.0"
    models: tuple[str, ...] = ("target",)
    max_model_len: int = 512
    num_padding: int = 0
    padding_logit: float = -1e9
    key: str | None = None
    mode: str = "processed_logprobs"
    follows_seeds: bool = True
    status: int | None = None  # what it answers to everything
    port: int = field(default_factory=free_port)
    requests: list[dict[str, Any]] = field(default_factory=list)
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application(middlewares=[self._guarded])
        app.add_routes(
            [
                web.get("/version", self._version),
                web.get("/v1/models", self._models),
                web.post("/detokenize", self._detokenize),
                web.post("/v1/completions", self._complete),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.stop()

    def logits(self, tokens: Sequence[int]) -> FloatArray:
        """The model's logits for the next token, padding included."""
        seed = zlib.crc32(np.array(tokens, np.int64).tobytes())
        logits = 2.0 * np.random.default_rng(seed).normal(size=VOCAB_SIZE + self.num_padding)
        logits[VOCAB_SIZE:] = self.padding_logit
        return logits

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.status is not None:
            return web.Response(status=self.status, text="<h1>out of order</h1>")
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        return cast("web.StreamResponse", await handler(request))

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": self.version})

    async def _models(self, _: web.Request) -> web.Response:
        listed = [{"id": name, "parent": None, "max_model_len": self.max_model_len} for name in self.models]
        return web.json_response({"data": listed})

    async def _detokenize(self, request: web.Request) -> web.Response:
        ids: list[int] = (await request.json())["tokens"]
        return web.json_response({"prompt": self.tokenizer.decode(ids, skip_special_tokens=False)})

    async def _complete(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        self.requests.append(body)
        ids: list[int] = body.get("logprob_token_ids", [])
        if ids and max(ids) >= VOCAB_SIZE + self.num_padding:
            size = VOCAB_SIZE + self.num_padding
            message = f"token_id(s) contain out-of-vocab token ids. Vocabulary size: {size}"
            return web.json_response({"error": {"message": message}}, status=400)
        sampling = Sampling(
            body["temperature"], body["top_k"], body["top_p"], body["min_p"], body["repetition_penalty"]
        )
        prompt: list[int] = body["prompt"]
        logits = Penalties(sampling).apply(self.logits(prompt), prompt, len(prompt))
        for name, bias in body.get("logit_bias", {}).items():
            logits[int(name)] += bias
        probs = warp(logits, sampling)
        shown = probs if self.mode == "processed_logprobs" else warp(self.logits(prompt), Sampling())
        if sampling.greedy:
            shown = warp(logits, Sampling())
        choices = [self._choice(index, probs, shown, body, ids) for index in range(body.get("n", 1))]
        return web.json_response({"choices": choices})

    def _choice(
        self, index: int, probs: FloatArray, shown: FloatArray, body: dict[str, Any], ids: Sequence[int]
    ) -> dict[str, Any]:
        seed = body.get("seed", 0) + index if self.follows_seeds else None
        token = int(np.random.default_rng(seed).choice(len(probs), p=probs))
        choice: dict[str, Any] = {"index": index, "token_ids": [token]}
        if "logprobs" in body:
            wanted = ids or np.argsort(-shown)[: body["logprobs"]].tolist()
            with np.errstate(divide="ignore"):
                logs = np.maximum(np.log(shown), -9999.0)
            top = {f"token_id:{id_}": float(logs[id_]) for id_ in (token, *wanted)}
            choice["logprobs"] = {"top_logprobs": [top]}
        return choice
