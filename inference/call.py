"""A call as it comes in, and what goes out: the two ends of the story of a paid call."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import urlsplit

from inference.catalog import CatalogEntry
from inference.errors import NodeError
from inference.work import Work

EVENT_STREAM: Final = "text/event-stream"


@dataclass(frozen=True)
class Call:
    """One request as it came: `body` is the exact bytes, `payment` the header or None.

    `task` is that of the models the route sells, None where it is all. `coupon` is a header too.
    """

    url: str
    body: bytes
    payment: str | None
    model: str
    task: str | None
    prepare: Callable[[CatalogEntry], Awaitable[Work]]
    coupon: str = ""

    @cached_property
    def path(self) -> str:
        """The path of its route."""
        return urlsplit(self.url).path


@dataclass(frozen=True)
class Answer:
    """What leaves the node in one piece. `headers` are the payment headers."""

    status: int
    body: bytes
    headers: dict[str, str]
    failure: NodeError | None = None
    media_type: str = "application/json"


@dataclass(frozen=True)
class Stream:
    """What leaves piece by piece; `events` must be closed by whoever sends them."""

    headers: dict[str, str]
    events: AsyncGenerator[bytes, None]
