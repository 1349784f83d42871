"""A message in a few words, for logs. Pure.

Law: only lengths and numbers. What people write never reaches a log, neither as text nor as tokens.
"""

from common.protocol.messages import Close, Correction, Draft, ToDevice, ToWorker


def summarise(message: ToWorker | ToDevice) -> str:
    """One line about a message."""
    match message:
        case Draft():
            nothing = "only to be read" if message.only_reads else "nothing to verify"
            asked = f"{len(message.block)} tokens to verify" if message.block else nothing
            bonus = f", {message.bonus} to add" if message.bonus else ""
            known = f"base {message.base}, {len(message.context)} tokens of context"
            return f"draft {message.n}: {known}, {asked}{bonus}"
        case Close():
            return "closed"
        case Correction():
            index = f", token {message.index} of a stream" if message.index else ""
            return f"correction {message.n}: {message.num_accepted} accepted{index}"
        case _:
            detail = f" ({message.detail})" if message.detail else ""
            return f"refusal of draft {message.n}: {message.reason.name.lower()}{detail}"
