"""Real generations on a real draft model, whose worker accepts everything at once, in this process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import onnxruntime as ort

from benchmarks.draft_step.runs import TimedRuns
from common.link import Traffic
from common.protocol.codec import encode
from common.protocol.messages import Correction, Draft, Opening
from common.sampling.distribution import Sampling
from edge_agent.assembly import build_policy, build_session_settings
from edge_agent.config import AgentConfig
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.draft_model.files import read_info
from edge_agent.draft_model.graph import read_graph
from edge_agent.draft_model.kv_cache import SharedCache
from edge_agent.draft_model.onnx_session import OnnxSession
from edge_agent.generation.draft_thread import DraftThread
from edge_agent.generation.drafting import Drafting
from edge_agent.generation.emission import Decoder
from edge_agent.generation.generation import Generation
from edge_agent.generation.mailbox import Inbox, Mailbox
from edge_agent.session.send_window import Outgoing
from edge_agent.session.session import EdgeSession
from edge_agent.text.stop_strings import StopStrings
from edge_agent.text.tokenizer import Text

SEED = 1
TEXT = (
    "Write a function that returns the n-th prime number, and explain why it is right.\n\n"
    "def nth_prime(n: int) -> int:\n    found, candidate = [], 2\n    while len(found) < n:\n"
    "        if all(candidate % prime for prime in found):\n            found.append(candidate)\n"
    "        candidate += 1\n    return found[-1]\n\nThe list holds every prime below the candidate, "
)


class AcceptingWorker:
    """Takes the place of the exchange: encodes what is sent, and puts the answer into the inbox at once."""

    def __init__(self) -> None:
        self._inboxes: dict[str, Inbox] = {}

    def join(self, session: str, inbox: Inbox, traffic: Traffic) -> None:  # noqa: ARG002
        """Put answers into `inbox`."""
        self._inboxes[session] = inbox

    def leave(self, session: str) -> None:
        """Put no more."""
        self._inboxes.pop(session, None)

    async def send(self, session: str, outgoing: Outgoing) -> None:
        """Accept every draft token."""
        message = outgoing.message
        encode(message)
        if isinstance(message, Draft) and session in self._inboxes:
            codes = bytes(message.num_context_probs)
            answer = Correction(message.n, len(message.block), None, "w", context_codes=codes)
            self._inboxes[session].put_nowait(answer)


@dataclass(frozen=True, slots=True)
class Bench:
    """A loaded draft model whose runs are timed."""

    runs: TimedRuns
    model: DraftModel
    text: Text
    thread: DraftThread

    @classmethod
    def load(cls, folder: Path, thread: DraftThread, num_threads: int) -> "Bench":
        """Load the graph in `folder`, as made by onnxruntime-genai, with its cache in one buffer."""
        info = read_info(folder)
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads
        runs = TimedRuns(ort.InferenceSession(info.onnx_path, options, providers=["CPUExecutionProvider"]))
        session = OnnxSession(cast("ort.InferenceSession", runs), "cpu")
        graph = read_graph(
            session.inputs, session.outputs, num_heads=info.num_cache_heads, head_size=info.head_size
        )
        cache = SharedCache(session, graph.cache, info.max_positions)
        return cls(runs, DraftModel(session, graph, cache, info.max_positions), Text.load(info), thread)

    def prompt(self, num_tokens: int) -> list[int]:
        """Return that many tokens of text."""
        tokens = self.text.encode(TEXT)
        return (tokens * (num_tokens // len(tokens) + 1))[:num_tokens]

    def generation(self, scheme: str, sampling: Sampling, prompt: list[int], num_tokens: int) -> Generation:
        """Return a generation as an agent makes it; nothing ends it early."""

        @asynccontextmanager
        async def turn(generation: Generation) -> AsyncGenerator[None]:
            generation.mailbox.join()
            yield
            generation.mailbox.leave()

        config = AgentConfig(scheme=scheme, max_tokens=num_tokens)
        opening = Opening(self.text.fingerprint, self.text.vocab_size, sampling, SEED)
        settings = build_session_settings(config, opening, frozenset(), self.model.max_positions)
        policy = build_policy(config, sampling, SEED)
        return Generation(
            session=EdgeSession(prompt, settings),
            mailbox=Mailbox("bench", AcceptingWorker()),
            drafting=Drafting(self.model, self.thread, policy, opening),
            decoder=Decoder(self.text.stream(prompt), StopStrings(())),
            turn=turn,
        )
