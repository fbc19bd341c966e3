"""The batching heart of models that read and do not write: embedders and classifiers.

Calls put inputs (texts as token ids, images as pixels) into one queue; lanes, which are threads
that own nothing but a turn at the model, take what waits in batches of bounded size and compute
each batch in one forward pass.

What holds:

- *Fair*: a batch takes one input of each waiting call in turn, so that a call of many long inputs
  holds up a short one for no more than the batches that compute already.
- *Bounded*: a batch has at most `batch_tokens` tokens, or one input; at most `queue_limit` calls
  are under way.
- *Alone in failure*: a batch that fails is halved until the inputs that fail are found; their calls
  end with an error, and so do calls whose own row is not finite. All others get their answers.
- *Alone in result*: an input is computed from itself and the weights, never from its companions and
  without padding. Only the order in which sums of floats are taken may depend on the size of the
  batch, so a row differs between batches by rounding: less than 1e-5 for unit vectors and for
  scores in single precision. Which companions a call had is not repeatable; an input that is
  computed alone gives the same bits each time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from inference.engine.device import give_back
from inference.engine.facts import EngineStats
from inference.engine.worker import Worker
from inference.errors import GenerationError, NodeError, QueueFullError, UnavailableError

Input = TypeVar("Input")
# Computes one row of numbers for each input, in their order: (inputs, width).
Forward: TypeAlias = Callable[[Sequence[Input]], torch.Tensor]
Rows: TypeAlias = NDArray[np.float64]

# A lane leaves the rest to the others only where each gets this much: a pass has a cost of its own.
_LEAST_SHARE_TOKENS: Final = 64
# What torch raises for a batch that it cannot compute: memory above all.
_FAILURES: Final = (IndexError, MemoryError, RuntimeError, GenerationError)
_STOPPED: Final = "this model's engine was stopped"


@dataclass(eq=False)
class _Call(Generic[Input]):
    """One call: its inputs, what came out so far, and who waits for it.

    `order` are the numbers of its inputs, the shortest first so that equals meet in a batch; `next`
    says how many of them were taken. All but `over` change under the encoder's lock only.
    """

    inputs: Sequence[Input]
    order: list[int]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Rows]
    rows: list[NDArray[np.float64] | None] = field(default_factory=list)
    next: int = 0
    left: int = 0
    over: bool = False


@dataclass(frozen=True, eq=False)
class _Piece(Generic[Input]):
    """One input in a batch: the `number`-th of its call, which takes `cost` tokens."""

    call: _Call[Input]
    number: int
    cost: int

    @property
    def input(self) -> Input:
        """The input itself."""
        return self.call.inputs[self.number]


class Encoder(Generic[Input]):
    """Runs `forward` over batches of inputs on `lanes` threads of `threads` processors each.

    `cost` says how many tokens an input takes. `forward` is called from all lanes at once and must
    keep nothing between calls.
    """

    def __init__(
        self,
        forward: Forward[Input],
        *,
        name: str,
        cost: Callable[[Input], int],
        batch_tokens: int,
        queue_limit: int,
        lanes: int = 1,
        threads: int = 1,
        device: torch.device | None = None,
    ) -> None:
        self._forward = forward
        self._cost = cost
        self._batch_tokens = batch_tokens
        self._queue_limit = queue_limit
        self._device = device or torch.device("cpu")
        self._lanes = [Worker(f"{name}-{number}", threads=threads) for number in range(lanes)]
        self._idle = list(self._lanes)
        self._computing = 0
        self._queue: deque[_Call[Input]] = deque()
        self._waiting_tokens = 0
        self._calls: set[_Call[Input]] = set()
        self._finished = 0
        self._closing = False
        self._lock = Lock()

    async def run(self, inputs: Sequence[Input]) -> Rows:
        """Return one row for each input: (inputs, width), float64.

        Raises `QueueFullError`, `UnavailableError` when the encoder was closed,
        `GenerationError` when the model fails on one of these inputs. A caller that leaves gives
        up what has not begun.
        """
        call = self._submit(inputs)
        try:
            return await call.future
        finally:
            call.over = True
            with self._lock:
                self._calls.discard(call)

    def stats(self) -> EngineStats:
        """Return what the encoder does now and did so far. It keeps no cache and makes no token."""
        with self._lock:
            waiting = sum(call.next == 0 for call in self._calls)
            running = len(self._calls) - waiting
        return EngineStats(
            waiting=waiting,
            running=running,
            finished=self._finished,
            output_tokens=0,
            cache_bytes=0,
        )

    def close(self) -> None:
        """End the lanes after their batches; calls not done end with `UnavailableError`."""
        with self._lock:
            self._closing = True
        for lane in self._lanes:
            lane.close()
        with self._lock:
            left = list(self._calls)
            self._queue.clear()
        for call in left:
            self._end(call, UnavailableError(_STOPPED))

    def _submit(self, inputs: Sequence[Input]) -> _Call[Input]:
        loop = asyncio.get_running_loop()
        costs = [self._cost(item) for item in inputs]
        call = _Call(
            inputs=inputs,
            order=sorted(range(len(inputs)), key=lambda number: costs[number]),
            loop=loop,
            future=loop.create_future(),
            rows=[None] * len(inputs),
            left=len(inputs),
        )
        with self._lock:
            if self._closing:
                raise UnavailableError(_STOPPED)
            if len(self._calls) >= self._queue_limit:
                raise QueueFullError(len(self._calls))
            self._calls.add(call)
            self._queue.append(call)
            self._waiting_tokens += sum(costs)
            self._wake()
        return call

    def _wake(self) -> None:
        """Let one idle lane take its turn. Called with the lock held."""
        if self._queue and self._idle and not self._closing:
            lane = self._idle.pop()
            lane.call(lambda: self._turn(lane))

    def _turn(self, lane: Worker) -> None:
        """Compute batch after batch until nothing waits. Runs on a lane's thread."""
        while batch := self._take(lane):
            try:
                self._compute(batch)
            except Exception as error:  # the thread's outermost door: nobody else would hear of it
                failure = GenerationError(f"the engine failed: {error!r:.200}")
                for piece in batch:
                    self._end(piece.call, failure)
            with self._lock:
                self._computing -= 1

    def _take(self, lane: Worker) -> list[_Piece[Input]]:
        """Return the next batch, sorted by length; nothing when the lane is to rest."""
        batch: list[_Piece[Input]] = []
        with self._lock:
            # Lanes that rest get their share of what waits; those that compute come back later.
            share = -(-self._waiting_tokens // (len(self._lanes) - self._computing))
            room = min(self._batch_tokens, max(share, _LEAST_SHARE_TOKENS))
            while self._queue and not self._closing:
                call = self._queue.popleft()
                if call.over:
                    self._waiting_tokens -= sum(
                        self._cost(call.inputs[number]) for number in call.order[call.next :]
                    )
                    continue
                number = call.order[call.next]
                cost = self._cost(call.inputs[number])
                if batch and cost > room:
                    self._queue.appendleft(call)
                    break
                batch.append(_Piece(call, number, cost))
                call.next += 1
                room -= cost
                self._waiting_tokens -= cost
                if call.next < len(call.order):
                    self._queue.append(call)
            if batch:
                self._computing += 1
                self._wake()
            else:
                self._idle.append(lane)
        return sorted(batch, key=lambda piece: piece.cost)

    def _compute(self, batch: list[_Piece[Input]]) -> None:
        """Compute a batch and hand its rows over; halve it where that fails."""
        alive = [piece for piece in batch if not piece.call.over]
        if not alive:
            return
        fault = ""
        try:
            with torch.inference_mode():
                rows = self._forward([piece.input for piece in alive]).double().cpu().numpy()
            for piece, row in zip(alive, rows, strict=True):
                self._deliver(piece, row)
        except _FAILURES as error:
            # Only its words: the error itself would hold the failed batch's memory.
            fault = f"{error!s:.200}"
        if not fault:
            return
        give_back(self._device)
        if len(alive) == 1:
            self._end(alive[0].call, GenerationError(f"the forward pass failed: {fault}"))
            return
        for half in (alive[: len(alive) // 2], alive[len(alive) // 2 :]):
            self._compute(half)

    def _deliver(self, piece: _Piece[Input], row: NDArray[np.float64]) -> None:
        call = piece.call
        if not np.isfinite(row).all():
            self._end(call, GenerationError("the model computed values that are not numbers"))
            return
        with self._lock:
            call.rows[piece.number] = row
            call.left -= 1
            done = call.left == 0
        if done:
            self._end(call, np.stack([found for found in call.rows if found is not None]))

    def _end(self, call: _Call[Input], result: Rows | NodeError) -> None:
        """Hand a call its result, once; whoever left does not hear of it."""
        with self._lock:
            if call.over:
                return
            call.over = True
            self._finished += 1
        with suppress(RuntimeError):  # its event loop was closed
            call.loop.call_soon_threadsafe(_tell, call.future, result)


def _tell(future: asyncio.Future[Rows], result: Rows | NodeError) -> None:
    if future.done():
        return
    if isinstance(result, NodeError):
        future.set_exception(result)
    else:
        future.set_result(result)
