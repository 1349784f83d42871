"""The one error of reading a message."""

from common.protocol.messages import Reason


class CodecError(Exception):
    """A payload that is no valid message: one sentence that says why.

    `n` is the draft's number where it could be read, so that a worker can refuse that very draft; `reason`
    is what the refusal should state.
    """

    def __init__(self, detail: str, *, n: int | None = None, reason: Reason = Reason.BAD_REQUEST) -> None:
        super().__init__(detail)
        self.n = n
        self.reason = reason
