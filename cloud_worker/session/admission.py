"""What a worker never verifies, whatever it holds: drafts outside of its limits, and why. Pure.

Law 5: a draft is judged by its own fields and the worker's limits before it takes part in a forward pass; the
refusal says in a sentence what does not fit.
"""

from dataclasses import dataclass

from common.protocol.codec import CodecError, check_ids
from common.protocol.messages import MAX_CONTEXT_PROBS, PROTOCOL_VERSION, Draft, Opening, Reason, Refusal


@dataclass(frozen=True, slots=True)
class Target:
    """What a session must know of the worker that runs it."""

    worker: str
    tokenizer: bytes
    vocab_size: int
    max_tokens: int
    eos_ids: frozenset[int] = frozenset()

    def refuse(
        self, draft: Draft, reason: Reason, detail: str = "", *, have: int = 0, retry_after: float = 0.0
    ) -> Refusal:
        """This worker's answer to a draft that it does not verify."""
        return Refusal(draft.n, reason, self.worker, detail, have, retry_after)


def beyond_limits(draft: Draft, target: Target) -> Refusal | None:
    """Why no worker with this target model will verify the draft; None when it may."""
    if draft.opening is not None and (refusal := _of_another_kind(draft, draft.opening, target)):
        return refusal
    try:
        check_ids(draft, target.vocab_size)
    except CodecError as error:
        return target.refuse(draft, Reason.BAD_REQUEST, str(error))
    start = draft.base + len(draft.context)
    if start <= draft.num_context_probs or not (draft.block or draft.bonus or draft.num_context_probs):
        return target.refuse(draft, Reason.BAD_REQUEST, "there is nothing to verify, or nothing before it")
    if draft.num_context_probs > MAX_CONTEXT_PROBS:
        return target.refuse(
            draft, Reason.BAD_REQUEST, f"more than {MAX_CONTEXT_PROBS} context probabilities are wanted"
        )
    needed = start + len(draft.block) + min(draft.bonus, 1)
    if needed > target.max_tokens:
        return target.refuse(
            draft,
            Reason.TOO_LONG,
            f"the sequence has {needed} tokens and this worker takes {target.max_tokens}",
        )
    return None


def _of_another_kind(draft: Draft, opening: Opening, target: Target) -> Refusal | None:
    """Whether the two ends speak the same protocol and the same vocabulary."""
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
