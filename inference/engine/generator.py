"""The engine as the rest of the house knows it, whichever one computes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from inference.engine.facts import EngineFacts, EngineStats
from inference.engine.sequence import Delta, GenerationRequest


@runtime_checkable
class Generator(Protocol):
    """Generates text with a loaded causal language model.

    Every id that `submit` returns must be streamed to its end or cancelled. `facts` say what
    computes.
    """

    facts: EngineFacts

    def facts_for(self, *, exact: bool) -> EngineFacts:
        """Return what computes a call that asked for exactness, or did not.

        The engine's name ends in `exact` where the same call gives the same tokens, bit for bit,
        whatever else is computed beside it.
        """

    def check_length(self, input_tokens: int, max_output_tokens: int) -> None:
        """Raise `RequestError` if a call of that many tokens can never be served.

        Raises `QueueFullError` if it could not even wait now.
        """

    def check_exact(self) -> None:
        """Raise `RequestError` if a call's tokens may depend on what else is computed here."""

    def submit(self, request: GenerationRequest) -> str:
        """Queue a request on the running event loop; return its id.

        Raises `RequestError` for what this engine can never do, `QueueFullError`, or
        `UnavailableError` when the engine stopped.
        """

    def stream(self, id: str) -> AsyncIterator[Delta]:
        """Yield an answer's deltas; the last one has a finish reason.

        Raises `GenerationError` when the model fails, `UnavailableError` when the engine stops.
        A reader that leaves early cancels the request.
        """

    def cancel(self, id: str) -> None:
        """Give up a request; its place is free within one step. Unknown ids are let pass."""

    def stats(self) -> EngineStats:
        """Return what the engine does now and did so far."""

    def close(self) -> None:
        """End the thread within one step; calls under way end with `UnavailableError`."""
