"""The messages of the protocol, as frozen values; the codec turns them into bytes.

A device sends `Draft` and `Close`; a worker answers with `Correction` or `Refusal`. Positions and lengths
count tokens of the whole sequence, prompt included.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from common.protocol.grammar import AnswerGrammar, KnownGrammar
from common.sampling.distribution import Distribution, Sampling

PROTOCOL_VERSION = 1
MAX_CONTEXT_PROBS = 256  # each costs the worker a row of logits as wide as the vocabulary


@dataclass(frozen=True, slots=True)
class DraftToken:
    """A token to verify, with the distribution it was drawn from.

    None means that no distribution is needed: the target's own choice decides (greedy, or the Gumbel
    coupling of arXiv 2408.07978), and the token is accepted if it equals that choice.
    """

    token: int
    distribution: Distribution | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """What a worker needs to take a session; sent with every draft whose base is 0.

    `num_prompt` counts the tokens of the prompt, where the sampling has penalties that spare them; else 0.
    """

    tokenizer: bytes  # fingerprint of the vocabulary (common.protocol.fingerprint)
    vocab_size: int
    sampling: Sampling
    seed: int
    version: int = PROTOCOL_VERSION
    num_prompt: int = 0
    grammar: AnswerGrammar | KnownGrammar | None = None  # what the answer must match


@dataclass(frozen=True, slots=True)
class Draft:
    """A piece of the sequence: `context` is given, `block` is to be verified.

    The worker should already hold the first `base` tokens, at the same `epoch`. `check` is their CRC-32 (0
    when `base` is 0), so a prefix that has drifted is detected and never used. After a fully accepted block
    the worker adds `bonus` tokens of its own, one correction each. `num_context_probs` asks for the target's
    probability of each of that many last context tokens (deferred verification), at most MAX_CONTEXT_PROBS.
    An opening that asks for nothing only has its context read ahead (`only_reads`).
    """

    n: int
    epoch: int
    base: int
    context: tuple[int, ...]
    block: tuple[DraftToken, ...]
    bonus: int = 0
    num_context_probs: int = 0
    check: int = 0
    opening: Opening | None = None

    @property
    def only_reads(self) -> bool:
        """Whether it asks for nothing: the worker reads the context, and answers at once that it does."""
        asks = self.block or self.bonus or self.num_context_probs
        return self.opening is not None and not asks


@dataclass(frozen=True, slots=True)
class Close:
    """The session is over: the worker may forget it and stop working on it. There is no answer."""


@dataclass(frozen=True, slots=True)
class Correction:
    """The answer to draft `n`: how many block tokens are accepted, and the token that follows them.

    `token` is the resampled token after a rejection, a bonus token after a fully accepted block (if one was
    asked for), else None. `index` numbers the bonus tokens of one draft: 0 comes with the verdict, the others
    follow as 1, 2, ... `context_codes` are one-byte probabilities (distribution.decode_probs); in the
    answer to an opening, the target's end tokens follow them (common.protocol.end_ids). `limit` is the most
    tokens that the worker accepts, in the answer to a prompt that is only read; else 0.
    """

    n: int
    num_accepted: int
    token: int | None
    worker: str
    index: int = 0
    context_codes: bytes = b""
    compute_ms: float = 0.0
    limit: int = 0


class Reason(IntEnum):
    """Why a worker did not verify a draft."""

    NEED_CONTEXT = 1  # the worker does not hold the first `base` tokens: send them
    TOKENIZER_MISMATCH = 2  # draft and target model do not share a vocabulary
    TOO_LONG = 3  # the sequence exceeds the target model's or the worker's limit
    BUSY = 4  # try again after `retry_after` seconds, or another worker
    BAD_REQUEST = 5  # the message breaks the protocol; `detail` says how
    UNSUPPORTED_VERSION = 6  # the worker speaks another protocol version


@dataclass(frozen=True, slots=True)
class Refusal:
    """A draft that was not verified, and why. `n` is None if the message could not be read that far.

    `have` counts the tokens that the worker holds (NEED_CONTEXT) or accepts at most (TOO_LONG; 0: unknown).
    """

    n: int | None
    reason: Reason
    worker: str
    detail: str = ""
    have: int = 0
    retry_after: float = 0.0


ToWorker: TypeAlias = Draft | Close
ToDevice: TypeAlias = Correction | Refusal
