"""An engine that has the answers computed by another model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from inference.engine.sequence import Delta, GenerationRequest
from tests.liars.honest import Engine


class Swapped(Engine):
    def __init__(self, honest: Any, other: Any) -> None:
        super().__init__(honest)
        self.other = other

    def submit(self, request: GenerationRequest) -> str:
        return str(self.other.submit(request))

    def stream(self, id: str) -> AsyncIterator[Delta]:
        stream: AsyncIterator[Delta] = self.other.stream(id)
        return stream

    def cancel(self, id: str) -> None:
        self.other.cancel(id)
