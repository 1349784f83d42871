"""Which drafts a worker never verifies, regardless of what it holds, and why. Pure.

Law 5: a draft is checked by its own fields against the worker's limits before it takes part in a forward
pass. The refusal states in one line what does not fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from common.grammar.errors import UnusableGrammarError
from common.protocol.codec import CodecError, check_ids
from common.protocol.fingerprint import fingerprint
from common.protocol.grammar import AnswerGrammar, KnownGrammar
from common.protocol.messages import MAX_CONTEXT_PROBS, PROTOCOL_VERSION, Draft, Opening, Reason, Refusal
from common.sampling.mask import Constraint


class Grammars(Protocol):
    """What forbids tokens by the grammar of an answer."""

    def masks(
        self, given: AnswerGrammar | KnownGrammar, end_ids: frozenset[int], device: str = ""
    ) -> Constraint:
        """The masks of an answer of a device, which `end_ids` may end, too.

        Raises UnusableGrammarError in one line, UnknownGrammarError if the source is needed, and
        GrammarsFullError if too many are in use.
        """
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """What a session needs to know about its worker and the target model."""

    worker: str
    tokenizer: bytes
    vocab_size: int
    max_tokens: int
    eos_ids: frozenset[int] = frozenset()
    grammars: Grammars | None = None

    @classmethod
    def of(
        cls,
        worker: str,
        vocabulary: Mapping[str, int],
        max_tokens: int,
        eos_ids: frozenset[int],
        grammars: Grammars | None = None,
    ) -> "Target":
        """The target of a model with this vocabulary (token -> id)."""
        vocab_size = max(vocabulary.values()) + 1
        return cls(worker, fingerprint(vocabulary), vocab_size, max_tokens, eos_ids, grammars)

    def masks(self, opening: Opening, device: str) -> Constraint | None:
        """What forbids tokens in the answer, if anything; raises as `Grammars.masks`."""
        if opening.grammar is None:
            return None
        if self.grammars is None:
            raise UnusableGrammarError("this worker cannot constrain an answer; leave the grammar out")
        return self.grammars.masks(opening.grammar, self.eos_ids, device)

    def refuse(
        self, draft: Draft, reason: Reason, detail: str = "", *, have: int = 0, retry_after: float = 0.0
    ) -> Refusal:
        """The answer to a draft that this worker does not verify."""
        return Refusal(draft.n, reason, self.worker, detail, have, retry_after)

    def refuse_length(self, draft: Draft, num_tokens: int) -> Refusal:
        """The answer to a draft that makes a sequence of `num_tokens`, which is too long; has the limit."""
        detail = f"the sequence has {num_tokens} tokens, but this worker accepts at most {self.max_tokens}"
        return self.refuse(draft, Reason.TOO_LONG, detail, have=self.max_tokens)

    def refuse_unreadable(self, error: CodecError) -> Refusal:
        """The answer to a payload that is not a valid message."""
        return Refusal(error.n, error.reason, self.worker, str(error))


def beyond_limits(draft: Draft, target: Target) -> Refusal | None:
    """Why no worker with this target model can verify the draft; None when it can."""
    if draft.opening is not None and (refusal := _mismatch(draft, draft.opening, target)):
        return refusal
    try:
        check_ids(draft, target.vocab_size)
    except CodecError as error:
        return target.refuse(draft, Reason.BAD_REQUEST, str(error))
    start = draft.base + len(draft.context)
    asks = draft.block or draft.bonus or draft.num_context_probs or draft.only_reads
    if start <= draft.num_context_probs or not asks:
        return target.refuse(draft, Reason.BAD_REQUEST, "there is nothing to verify, or nothing before it")
    if draft.num_context_probs > MAX_CONTEXT_PROBS:
        return target.refuse(
            draft, Reason.BAD_REQUEST, f"more than {MAX_CONTEXT_PROBS} context probabilities are wanted"
        )
    needed = start + len(draft.block) + min(draft.bonus, 1)
    if needed > target.max_tokens:
        return target.refuse_length(draft, needed)
    return None


def _mismatch(draft: Draft, opening: Opening, target: Target) -> Refusal | None:
    """Why the two ends cannot work together: another protocol version or another vocabulary."""
    if opening.version != PROTOCOL_VERSION:
        return target.refuse(
            draft, Reason.UNSUPPORTED_VERSION, f"this worker speaks version {PROTOCOL_VERSION}"
        )
    if (opening.tokenizer, opening.vocab_size) != (target.tokenizer, target.vocab_size):
        return target.refuse(
            draft,
            Reason.TOKENIZER_MISMATCH,
            f"the target model's vocabulary is {target.tokenizer.hex()} with {target.vocab_size} tokens, "
            f"the draft model's is {opening.tokenizer.hex()} with {opening.vocab_size}",
        )
    return None
