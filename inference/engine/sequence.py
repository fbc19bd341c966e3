"""One answer in the making, and what its reader gets."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from inference.engine.detokenizer import Detokenizer
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
    of each token how it was chosen, `compute_s` for how many seconds the engine has been at it.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None = None
    choices: tuple[Choice, ...] = ()
    compute_s: float = 0.0


class Outlet:
    """Where a reader on an event loop gets what the engine's thread makes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._queue: asyncio.Queue[Delta | NodeError] = asyncio.Queue()

    def put(self, item: Delta | NodeError) -> None:
        """Take the next item; called on the reader's loop."""
        self._queue.put_nowait(item)

    async def deltas(self) -> AsyncIterator[Delta]:
        """Yield what comes until the answer ends, on the reader's loop. Raises what ended it."""
        finished = False
        while not finished:
            item = await self._queue.get()
            if isinstance(item, NodeError):
                raise item
            yield item
            finished = item.finish_reason is not None


def deliver(sequences: Iterable[Sequence]) -> None:
    """Hand what is pending to its readers, from any thread.

    A loop is woken once for all of its readers. A sequence whose loop is closed is given up.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Sequence, Delta | NodeError]]] = {}
    for sequence in sequences:
        item, sequence.pending = sequence.pending, None
        if item is not None:
            by_loop.setdefault(sequence.outlet.loop, []).append((sequence, item))
    for loop, items in by_loop.items():
        try:
            loop.call_soon_threadsafe(_put_all, items)
        except RuntimeError:  # how asyncio says that the loop is closed
            for sequence, _ in items:
                sequence.cancelled = True


def _put_all(items: Iterable[tuple[Sequence, Delta | NodeError]]) -> None:
    for sequence, item in items:
        sequence.outlet.put(item)


@dataclass(eq=False)
class Sequence:
    """A request and its state. Only the engine's thread writes it, but for `cancelled`.

    `tokens` are the prompt's and the answer's; keys and values of the first `computed` of them lie
    in `blocks`, of which the full ones have `names`. `since` is when it came and `began` when
    the engine took it up, in seconds of the monotonic clock; 0 where the engine does not tell.
    """

    id: str
    request: GenerationRequest
    outlet: Outlet
    detokenizer: Detokenizer
    since: float = field(default_factory=time.monotonic)
    tokens: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)
    computed: int = 0
    counts: Counter[int] = field(default_factory=Counter)
    constraint: Constraint | None = None
    pending: Delta | NodeError | None = None
    finish_reason: str | None = None
    cancelled: bool = False
    failed: bool = False
    began: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = list(self.request.prompt_ids)

    @property
    def position(self) -> int:
        """Return the position of the token to make next: how many tokens come before it."""
        return len(self.tokens)

    @property
    def made(self) -> int:
        """Return how many tokens of the answer there are."""
        return len(self.tokens) - len(self.request.prompt_ids)

    @property
    def longest(self) -> int:
        """Return how many tokens it can have in the end, the prompt's included."""
        return len(self.request.prompt_ids) + self.request.sampling.max_tokens

    @property
    def finished(self) -> bool:
        """Return whether nothing more will be made."""
        return self.finish_reason is not None

    def append(self, choice: Choice, ends: frozenset[int]) -> None:
        """Take the next token and prepare the delta for it. `ends` are the end tokens."""
        token = choice.token
        self.tokens.append(token)
        self.counts[token] += 1
        text = "" if token in ends else self.detokenizer.push(token)
        if token in ends or self.detokenizer.stopped:
            self.finish_reason = STOP
        elif self.made >= self.request.sampling.max_tokens:
            self.finish_reason = LENGTH
        if self.finished:
            text += self.detokenizer.finish()
            if self.detokenizer.stopped:
                self.finish_reason = STOP
        spent = time.monotonic() - (self.began or self.since)
        self.pending = Delta(text, (token,), self.finish_reason, (choice,), spent)

    def fail(self, error: NodeError) -> None:
        """End with an error instead of a delta."""
        self.pending = error
        self.failed = True
        self.finish_reason = STOP

    def end_cancelled(self) -> None:
        """End because the reader left."""
        self.finish_reason = CANCELLED
        self.pending = Delta("", (), CANCELLED)
