"""A worker's refusal as a one-line error for the user: what is wrong and what to do. Pure."""

from common.protocol.messages import Reason, Refusal

ADVICE = {
    Reason.TOKENIZER_MISMATCH: "use a draft and a target model of one family",
    Reason.TOO_LONG: "shorten the prompt or ask for fewer tokens",
    Reason.UNSUPPORTED_VERSION: "upgrade the older of the two sides",
}


def explain(refusal: Refusal) -> str:
    """The message for a refusal that asking again cannot resolve."""
    detail = "".join(character if character.isprintable() else " " for character in refusal.detail)
    told = f"worker {refusal.worker} refused the draft: {detail}"
    if ";" in detail:
        return told  # it says what to do
    return f"{told}; {ADVICE.get(refusal.reason, 'agent and worker may be of different releases')}"
