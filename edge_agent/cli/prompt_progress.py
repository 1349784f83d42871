"""How far the draft model has read a long prompt, on one line of a terminal that is erased at the end.

Law: nothing of it reaches a pipe or a file.
"""

import os
from typing import TextIO

from edge_agent.cli.terminal import ERASE

LONG_PROMPT = 512  # tokens to be read; fewer take a moment


class PromptProgress:
    """Shows nothing unless `stream` is a terminal that can erase a line, and a long prompt is being read."""

    def __init__(self, stream: TextIO, *, quiet: bool) -> None:
        self._stream = stream
        self._is_wanted = not quiet and stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._is_shown = False

    def show(self, num_read: int, num_tokens: int) -> None:
        """So many of the tokens to be read have been read."""
        if not self._is_wanted or num_tokens <= LONG_PROMPT:
            return
        self._is_shown = True
        print(
            f"\rreading the prompt: {num_read} of {num_tokens} tokens{ERASE}",
            end="",
            file=self._stream,
            flush=True,
        )
        if num_read >= num_tokens:
            self.clear()

    def clear(self) -> None:
        """Erase the line, if there is one."""
        if self._is_shown:
            print(f"\r{ERASE}", end="", file=self._stream, flush=True)
        self._is_shown = False
