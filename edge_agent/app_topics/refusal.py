"""Why a message of an app has no effect: one line, which the app gets back. Pure."""

from edge_agent.errors import AgentError


class RefusalError(AgentError):
    """What an app sent cannot be used; `id` is the id that it gave, where that could be read."""

    def __init__(self, message: str, id: "str | int | None" = None) -> None:
        super().__init__(message)
        self.id = id


class EchoError(RefusalError):
    """An app sent the agent's own message back: a refusal of it would come back too, so none is sent."""
