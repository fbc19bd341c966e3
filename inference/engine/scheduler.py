"""What is computed in the next step, and who may begin.

1. Who left is ended first: its place and its blocks are free within one step.
2. Who waits is admitted while there is a place and while all the blocks it can ever need are free:
   the payer with the fewest sequences under way first, then who came first. One that does not fit
   yet holds up those behind it, so that it comes to its turn.
3. Every answer under way gets its next token.
4. What room is left goes to prompts: a quarter to the one that came first, so that it comes to its
   end whatever comes after it, the rest to the shortest first, which begin to answer soonest. Of
   exact prompts that must be cut at fixed places, one at a time is computed.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Final

from inference.engine.forward import Span
from inference.engine.kv_cache import BLOCK, Blocks, names_of
from inference.engine.sequence import Sequence
from inference.errors import QueueFullError

# Prompts' tokens in one step, where somebody else waits for it and where nobody does: each step
# takes so much longer.
BUSY_TOKENS: Final = 128
IDLE_TOKENS: Final = 512
# An exact prompt is cut at the same places however busy the engine is.
EXACT_TOKENS: Final = 64
# The part of a step's room that the prompt that came first gets at least: one in so many.
_FIRSTS_SHARE: Final = 4


@dataclass(frozen=True)
class Step:
    """The spans to compute, and the sequences that were given up before."""

    spans: list[Span]
    left: list[Sequence]


class Scheduler:
    """Sequences that wait and sequences that run.

    `add` may be called by any thread, everything else by the engine's. `invariant` says that a
    sequence's results do not depend on how it is cut, so that exact ones need no special care.
    """

    def __init__(
        self, blocks: Blocks, *, queue_limit: int, max_running: int, invariant: bool
    ) -> None:
        self.blocks: Final = blocks
        self._queue_limit = queue_limit
        self._max_running = max_running
        self._invariant = invariant
        self._waiting: dict[str, deque[Sequence]] = {}
        self._running: list[Sequence] = []
        self._lock = Lock()
        self.cached_tokens = 0

    def check_room(self) -> None:
        """Raise `QueueFullError` when no more may wait."""
        if self.waiting >= self._queue_limit:
            raise QueueFullError(self.waiting)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. Raises `QueueFullError`."""
        with self._lock:
            self.check_room()
            self._waiting.setdefault(sequence.request.payer, deque()).append(sequence)

    def schedule(self) -> Step:
        """Return what to compute next."""
        with self._lock:
            left = self._drop_cancelled()  # 1
            self._admit()  # 2
        answers = [s for s in self._running if s.computed == len(s.tokens) - 1 and s.made]  # 3
        spans = [Span(s, s.computed, 1) for s in answers]
        taken = {id(s) for s in answers}
        prompts = [s for s in self._running if id(s) not in taken]
        budget = IDLE_TOKENS if not answers and len(prompts) == 1 else BUSY_TOKENS
        return Step(spans + list(self._cut(prompts, budget)), left)  # 4

    def advance(self, span: Span) -> None:
        """Note that a span was computed."""
        sequence = span.sequence
        sequence.computed = span.start + span.count
        known = len(sequence.names)
        if sequence.computed // BLOCK > known:
            tokens = sequence.tokens[: sequence.computed]
            sequence.names = names_of(sequence.request.payer, tokens, sequence.names)
            for block, name in zip(sequence.blocks[known:], sequence.names[known:], strict=False):
                self.blocks.name(block, name)

    def drop_finished(self) -> None:
        """Give up the places and the blocks of sequences that ended."""
        ended = [sequence for sequence in self._running if sequence.finished]
        with self._lock:
            self._running = [sequence for sequence in self._running if not sequence.finished]
        for sequence in ended:
            self._free(sequence)

    def drain(self) -> list[Sequence]:
        """Remove and return everything; used when the engine stops."""
        with self._lock:
            left = [*self._running, *self._queued()]
            self._running, self._waiting = [], {}
        for sequence in left:
            self._free(sequence)
        return left

    @property
    def waiting(self) -> int:
        """Return how many sequences wait."""
        return sum(len(queue) for queue in list(self._waiting.values()))

    @property
    def running(self) -> int:
        """Return how many sequences compute."""
        return len(self._running)

    @property
    def idle(self) -> bool:
        """Return whether there is nothing to do."""
        with self._lock:
            return not self._waiting and not self._running

    def _queued(self) -> list[Sequence]:
        return [sequence for queue in self._waiting.values() for sequence in queue]

    def _drop_cancelled(self) -> list[Sequence]:
        left = [s for s in (*self._running, *self._queued()) if s.cancelled]
        for sequence in left:
            if sequence in self._running:
                self._running.remove(sequence)
                self._free(sequence)
            else:
                self._remove(sequence)
        return left

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_running:
            sequence = self._next()
            if not self._begin(sequence):
                return
            self._remove(sequence)
            self._running.append(sequence)

    def _next(self) -> Sequence:
        """Return who is admitted next: of the payer with the fewest under way, then the first."""
        under_way = Counter(sequence.request.payer for sequence in self._running)
        heads = [queue[0] for queue in self._waiting.values()]
        return min(heads, key=lambda head: (under_way[head.request.payer], head.since))

    def _begin(self, sequence: Sequence) -> bool:
        # The last token of a prompt is always computed: its logits are wanted.
        prompt = sequence.tokens[:-1]
        reuses = self._invariant or not sequence.request.exact
        names = names_of(sequence.request.payer, prompt) if reuses else []
        held = self.blocks.take(sequence.longest, names)
        if held is None:
            return False
        sequence.began = time.monotonic()
        sequence.blocks, sequence.computed = held.blocks, held.known
        sequence.names = names[: held.known // BLOCK]
        self.cached_tokens += held.known
        return True

    def _cut(self, prompts: list[Sequence], budget: int) -> Iterable[Span]:
        """Divide what room is left between prompts."""
        in_order = sorted(prompts, key=lambda s: s.since)
        whole = [s for s in in_order if s.request.exact and not self._invariant][:1]
        for sequence in whole:
            count = min(_rest(sequence), EXACT_TOKENS)
            yield Span(sequence, sequence.computed, count)
            budget -= count
        others = [s for s in in_order if not s.request.exact or self._invariant]
        counts = {id(s): min(_rest(s), budget // _FIRSTS_SHARE) for s in others[:1]}
        budget -= sum(counts.values())
        for sequence in sorted(others, key=_rest):
            count = counts.get(id(sequence), 0)
            more = min(_rest(sequence) - count, budget)
            budget -= more
            if count + more:
                yield Span(sequence, sequence.computed, count + more)

    def _remove(self, sequence: Sequence) -> None:
        queue = self._waiting[sequence.request.payer]
        queue.remove(sequence)
        if not queue:
            del self._waiting[sequence.request.payer]

    def _free(self, sequence: Sequence) -> None:
        self.blocks.give_back(sequence.blocks)
        sequence.blocks = []


def _rest(sequence: Sequence) -> int:
    """Return how many known tokens are not computed."""
    return len(sequence.tokens) - sequence.computed
