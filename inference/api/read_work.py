"""What all calls to models that only read have in common, as a `Work`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping
from typing import TypeVar

from inference.api.sse import DONE, event
from inference.errors import NodeError
from inference.payments.pricing import Usage

_T = TypeVar("_T")


class ReadWork:
    """A call that reads `input_tokens` and makes none; its answer comes in one piece.

    `input_ids` are the tokens of its texts, none where it reads an image.
    """

    streams = False
    max_output_tokens = 0

    def __init__(self, input_tokens: int, input_ids: tuple[int, ...]) -> None:
        self.input_tokens = input_tokens
        self.input_ids = input_ids
        self._compute_ms = 0

    @property
    def usage(self) -> Usage:
        """Return the tokens read, and how long that took."""
        return Usage(self.input_tokens, 0, self._compute_ms)

    async def _timed(self, reading: Awaitable[_T]) -> _T:
        """Wait for the engine, and note for how long."""
        began = time.monotonic()
        try:
            return await reading
        finally:
            self._compute_ms = int((time.monotonic() - began) * 1000)

    @property
    def output_ids(self) -> tuple[int, ...]:
        """Return no tokens: none are made."""
        return ()

    @property
    def sampling(self) -> None:
        """Return nothing: no token is drawn."""

    @property
    def finish(self) -> str:
        """Return none: there is no end to reach."""
        return "none"

    def told_usage(self) -> dict[str, int]:
        """Return the usage as OpenAI's clients read it."""
        return {"prompt_tokens": self.input_tokens, "total_tokens": self.input_tokens}

    def failing(self, failure: NodeError) -> bytes:
        """Return the error as an event; these answers are not streamed today."""
        return event({"error": {"message": failure.message, "code": failure.code}})

    def closing(self, bundle: Mapping[str, object]) -> bytes:
        """Return the receipt as an event."""
        return event({"weightproof": bundle}) + DONE
