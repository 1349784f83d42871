"""The only error that decoding raises."""

from common.protocol.messages import Reason


class CodecError(Exception):
    """A payload that is not a valid message, with a one-line reason.

    `n` is the draft's number if it could be read, so that a worker can refuse that draft; `reason` is what
    the refusal should state.
    """

    def __init__(self, detail: str, *, n: int | None = None, reason: Reason = Reason.BAD_REQUEST) -> None:
        super().__init__(detail)
        self.n = n
        self.reason = reason
