"""Hostile but well-formed accounts: each sends messages of one kind at a steady rate, as cheaply as it can.

Law: all payloads are made before the clock starts, and one thread sends them over plain sockets, so that
the attack takes little of the processor that broker and worker are measured on. A session's drafts are
numbered in order and each starts over from its own context: none is stale, few share a cached beginning.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import cbor2
import numpy as np

from benchmarks.fuzz.flood import connect, publish
from common.protocol.codec import encode
from common.protocol.codec.keys import DraftKey
from common.protocol.messages import MAX_CONTEXT_PROBS, Draft, DraftToken, Opening
from common.protocol.topics import Topics
from common.sampling.distribution import Lattice, Sampling

NUM_SESSIONS = 16  # of each account: as many as a worker holds for it
NUM_DISTINCT = 256  # payloads of one account
TICK = 0.005  # seconds between two rounds of writes
GARBAGE_TOKENS = 30_000  # in a message whose last field is wrong
CHECKED_TOKENS = 400  # of a context whose checks are wrong

Payload: TypeAlias = Callable[["Account", int], bytes]  # of an account's message with this number


@dataclass(frozen=True, slots=True)
class Account:
    """What one account knows about the worker, and its own random numbers."""

    opening: Opening
    max_tokens: int
    rng: random.Random = field(default_factory=random.Random)

    def ids(self, count: int) -> tuple[int, ...]:
        """Random token ids."""
        return tuple(self.rng.choices(range(self.opening.vocab_size), k=count))

    def draft(self, n: int, num_context: int, num_block: int = 0, **fields: int) -> Draft:
        """A draft that starts over from a context of its own."""
        block = tuple(DraftToken(token, _lattice(token)) for token in self.ids(num_block))
        return Draft(n, 0, 0, self.ids(num_context), block, opening=self.opening, **fields)


def _lattice(token: int) -> Lattice:
    return Lattice(np.array([token]), np.array([256]))


def _prompt(account: Account, n: int) -> bytes:
    return encode(account.draft(n, min(300, account.max_tokens - 8), bonus=1))


def _small(account: Account, n: int) -> bytes:
    return encode(account.draft(n, 2, 4))


def _worst(account: Account, n: int) -> bytes:
    """As many rows as one draft may ask for, with sampling that looks at each whole row."""
    sampling = Sampling(1.0, top_k=account.opening.vocab_size - 1, top_p=1 - 2**-53)
    draft = account.draft(n, MAX_CONTEXT_PROBS + 1, 1, num_context_probs=MAX_CONTEXT_PROBS)
    return encode(replace(draft, opening=replace(account.opening, sampling=sampling)))


def _stream(account: Account, n: int) -> bytes:
    return encode(account.draft(n, 2, bonus=4096))


def _wrong_check(account: Account, n: int) -> bytes:
    if n == 0:
        return encode(account.draft(n, min(CHECKED_TOKENS, account.max_tokens - 8), bonus=1))
    return encode(Draft(n, 0, 100, account.ids(3), (), bonus=1, check=account.rng.getrandbits(32)))


def _garbage(account: Account, n: int) -> bytes:
    """A long context that is decoded to its end, and a field that is wrong."""
    context = np.array(account.ids(GARBAGE_TOKENS), "<u2").tobytes()
    return cbor2.dumps({DraftKey.CONTEXT: context, DraftKey.N: n, DraftKey.TOKENIZER: bytes(8)})


KINDS: Mapping[str, Payload] = {
    "prompts": _prompt,
    "small": _small,
    "worst": _worst,
    "llm": _stream,
    "checks": _wrong_check,
    "garbage": _garbage,
}


@dataclass(frozen=True, slots=True)
class Attack:
    """`num_accounts` accounts at `rate` messages per second each, for `seconds`."""

    kind: str
    num_accounts: int
    rate: float
    seconds: float
    opening: Opening
    max_tokens: int
    port: int
    worker: str
    pool: str = "demo"

    def run(self, ready: Callable[[], object], wait: Callable[[], object]) -> None:
        """Prepare everything, call both, and send."""
        everything = [self.packets(number) for number in range(self.num_accounts)]
        sockets = [connect(self.port) for _ in everything]
        ready()
        wait()
        began, num_sent, total = time.monotonic(), 0, round(self.rate * self.seconds)
        while num_sent < total:
            time.sleep(TICK)
            due = min(total, int(self.rate * (time.monotonic() - began)))
            for sock, packets in zip(sockets, everything, strict=True):
                sock.sendall(b"".join(packets[num_sent:due]))
            num_sent = due
        for sock in sockets:
            sock.close()

    def packets(self, number: int) -> list[bytes]:
        """All that one account sends, in order; after NUM_DISTINCT messages its sessions have other names."""
        account = Account(self.opening, self.max_tokens, random.Random(number))
        payloads = [KINDS[self.kind](account, n // NUM_SESSIONS) for n in range(NUM_DISTINCT)]
        sent: list[bytes] = []
        for index in range(round(self.rate * self.seconds)):
            session = f"s{index // NUM_DISTINCT}x{index % NUM_SESSIONS}"
            topic = Topics().draft(self.pool, self.worker, f"hostile{number}", session)
            sent.append(publish(topic.encode(), payloads[index % NUM_DISTINCT]))
        return sent
