"""What can go wrong with an agent, by cause. Pure.

Law: everything an app must expect of an agent is an `AgentError`, and each message is one line that says what
is wrong and what to do. Messages name settings in backquotes (`broker`), never flags: only the command line
has flags (`common.process.settings.with_flags`).

    AgentError
        ConfigError         a setting that cannot be used; a ValueError too
        ModelError          the draft model: its folder, its graph, the runtime
        CalibrationError    the calibration file
        PromptError         the prompt
            PromptTooLongError
            GrammarError
        BrokerError         the connection to the broker
        MetricsError        the metrics page
        BusyError           an ask more than may wait
        ClosingError        an ask to a service that ends
        ServingError        the address that `serve` listens on, or its key
        GenerationError     an answer that cannot go on

An answer that ends early because the cloud is away raises nothing: see `Generation.failure`.
"""

from collections.abc import Generator
from contextlib import contextmanager

SHORTEN = "shorten the prompt"  # the advice in each message about a prompt that is too long for a worker


class AgentError(Exception):
    """The base of every error of an agent."""


class ConfigError(AgentError, ValueError):
    """A setting is out of range, contradicts another one, or names a file that cannot be read."""


class ModelError(AgentError):
    """The draft model cannot be found, loaded or run."""


class CalibrationError(AgentError):
    """The calibration cannot be read, or belongs to another model, sampling or estimator."""


class PromptError(AgentError):
    """The prompt is empty, too long or not text, or the chat template refuses it."""


class PromptTooLongError(PromptError):
    """The prompt leaves no room for an answer."""


class GrammarError(PromptError):
    """The grammar cannot be used: it does not compile, or this device or its model cannot constrain."""


class BrokerError(AgentError):
    """The broker cannot be reached, refuses the agent, or its URL or certificates cannot be used."""


class MetricsError(AgentError):
    """The metrics page cannot be served."""


class BusyError(AgentError):
    """The queue is full."""


class ClosingError(AgentError):
    """The service ends."""


class ServingError(AgentError):
    """The agent cannot be served: its address is in use, or its key cannot be read."""


class GenerationError(AgentError):
    """A generation cannot go on."""


@contextmanager
def raised_as(error: type[AgentError], *causes: type[Exception]) -> Generator[None]:
    """Within the block, raise any of `causes` as `error`, with the same message."""
    try:
        yield
    except causes as cause:
        raise error(str(cause)) from cause
