"""One answer in the making, and what its reader gets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from inference.engine.detokenizer import Detokenizer
from inference.engine.kv_cache import KvCache
from inference.engine.sampling import Choice, Sampling
from inference.errors import NodeError

STOP: Final = "stop"
LENGTH: Final = "length"
CANCELLED: Final = "cancelled"


class Constraint(Protocol):
    """Which tokens may come next: a grammar that the answer must follow, in one answer's state."""

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Return which tokens may come now, shape (vocabulary,)."""

    def accept(self, token: int) -> None:
        """Take the token that came. Raises `GenerationError` for one that may not come."""


@dataclass(frozen=True)
class GenerationRequest:
    """What to continue, as token ids, and how.

    `payer` is whom the engine is fair between, and who alone may profit from what was computed for
    a prompt's head before. `exact` asks that the tokens depend on this request alone, bit for bit,
    whatever else is computed. `constraint` makes the state of a grammar for this answer.
    """

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    payer: str = ""
    exact: bool = False
    constraint: Callable[[], Constraint] | None = None


@dataclass(frozen=True)
class Delta:
    """One step of an answer: the tokens it made and the text that became certain with them.

    The last delta of an answer has a finish reason: `stop`, `length` or `cancelled`. Tokens of a
    stop string and the end token are counted although their text is not given out. `choices` says
    of each token how it was chosen.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None = None
    choices: tuple[Choice, ...] = ()


class Outlet:
    """Hands what the engine's thread makes to a reader on an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[Delta | NodeError] = asyncio.Queue()

    def send(self, item: Delta | NodeError) -> bool:
        """Deliver from any thread; False when the reader's loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
        except RuntimeError:  # how asyncio says that the loop is closed
            return False
        return True

    async def receive(self) -> Delta | NodeError:
        """Wait for the next item, on the reader's loop."""
        return await self._queue.get()


@dataclass(eq=False)
class Sequence:
    """A request and its state. Only the engine's thread writes it, but for `cancelled`."""

    id: str
    request: GenerationRequest
    outlet: Outlet
    detokenizer: Detokenizer
    cache: KvCache | None = None
    output_ids: list[int] = field(default_factory=list)
    pending: Delta | NodeError | None = None
    finish_reason: str | None = None
    cancelled: bool = False

    @property
    def position(self) -> int:
        """Return the position of the token to make next: how many tokens come before it."""
        return len(self.request.prompt_ids) + len(self.output_ids)

    @property
    def next_input(self) -> tuple[int, ...]:
        """Return the tokens the model has not seen yet."""
        seen = 0 if self.cache is None else self.cache.length
        return (*self.request.prompt_ids, *self.output_ids)[seen:]

    @property
    def finished(self) -> bool:
        """Return whether nothing more will be made."""
        return self.finish_reason is not None

    def append(self, choice: Choice, ends: frozenset[int]) -> None:
        """Take the next token and prepare the delta for it. `ends` are the end tokens."""
        token = choice.token
        self.output_ids.append(token)
        sampling = self.request.sampling
        text = "" if token in ends else self.detokenizer.push(token)
        if token in ends or self.detokenizer.stopped:
            self.finish_reason = STOP
        elif len(self.output_ids) >= sampling.max_tokens:
            self.finish_reason = LENGTH
        if self.finished:
            text += self.detokenizer.finish()
            if self.detokenizer.stopped:
                self.finish_reason = STOP
        self.pending = Delta(text, (token,), self.finish_reason, (choice,))

    def fail(self, error: NodeError) -> None:
        """End with an error instead of a delta."""
        self.pending = error
        self.finish_reason = STOP

    def end_cancelled(self) -> None:
        """End because the reader left."""
        self.finish_reason = CANCELLED
        self.pending = Delta("", (), CANCELLED)
