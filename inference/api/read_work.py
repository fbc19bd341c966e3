"""What all calls to models that only read have in common, as a `Work`."""

from __future__ import annotations

from collections.abc import Mapping

from inference.api.sse import DONE, event
from inference.errors import NodeError
from inference.payments.pricing import Usage


class ReadWork:
    """A call that reads `input_tokens` and makes none; its answer comes in one piece.

    `input_ids` are the tokens of its texts, none where it reads an image.
    """

    streams = False
    max_output_tokens = 0

    def __init__(self, input_tokens: int, input_ids: tuple[int, ...]) -> None:
        self.input_tokens = input_tokens
        self.input_ids = input_ids

    @property
    def usage(self) -> Usage:
        """Return the tokens read."""
        return Usage(self.input_tokens, 0)

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
