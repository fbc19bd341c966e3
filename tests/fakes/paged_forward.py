"""A forward pass without a model that keeps the real rules of the cache.

What a token leaves in the cache follows from its payer and all tokens up to it. Reading anything
else than that is a mistake.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence as Many

import numpy as np

from inference.engine.choosing import choose
from inference.engine.detokenizer import Detokenizer
from inference.engine.forward import NextLogits, Span
from inference.engine.kv_cache import BLOCK
from inference.engine.sampling import Sampling
from inference.engine.scheduler import Scheduler, Step
from inference.engine.sequence import GenerationRequest, Outlet, Sequence

VOCABULARY = 50


class CacheFault(AssertionError):
    """The cache did not hold what a sequence was told it holds."""


class PagedForward:
    """Next tokens are a digest of those before; slots remember which tokens were computed there."""

    name = "fake"

    def __init__(self, blocks: int, *, invariant: bool = True) -> None:
        self.is_invariant = invariant
        self.slots: list[list[bytes | None]] = [[None] * BLOCK for _ in range(blocks)]
        self.computed_tokens = 0

    def run(self, spans: Many[Span]) -> list[NextLogits | None]:
        """Compute spans together; see `Forward`."""
        return [self._compute(span) for span in spans]

    def close(self) -> None:
        """There is nothing to let go of."""

    def holds(self, sequence: Sequence, count: int) -> bool:
        """Return whether the first `count` tokens of a sequence lie in its blocks."""
        left = states(sequence, count)
        return all(
            self.slots[sequence.blocks[at // BLOCK]][at % BLOCK] == left[at] for at in range(count)
        )

    def _compute(self, span: Span) -> NextLogits | None:
        sequence = span.sequence
        if span.start != sequence.computed or span.count < 1:
            raise CacheFault(f"{span.start}+{span.count} after {sequence.computed}")
        if not self.holds(sequence, span.start):
            raise CacheFault(f"{sequence.id} reads what is not its own")
        end = span.start + span.count
        left = states(sequence, end)
        for position in range(span.start, end):
            self.slots[sequence.blocks[position // BLOCK]][position % BLOCK] = left[position]
        self.computed_tokens += span.count
        if not span.is_last:
            return None
        logits = np.zeros(VOCABULARY, dtype=np.float32)
        logits[left[-1][0] % VOCABULARY] = 1
        return NextLogits(logits)


def states(sequence: Sequence, count: int) -> list[bytes]:
    """Return what its first tokens leave; the payer is part of it, so that payers cannot share."""
    found, last = [], sequence.request.payer.encode()
    for token in sequence.tokens[:count]:
        last = hashlib.sha256(last + token.to_bytes(8, "little")).digest()
        found.append(last)
    return found


class Bench:
    """A scheduler and a forward pass turned by hand, as the engine turns them."""

    def __init__(self, scheduler: Scheduler, forward: PagedForward) -> None:
        self.scheduler = scheduler
        self.forward = forward
        self.ended: list[Sequence] = []
        self.steps = 0
        self.made = 0

    def sequence(
        self, prompt: Many[int], max_tokens: int = 4, *, payer: str = "", exact: bool = False
    ) -> Sequence:
        """Return a new sequence, not yet queued."""
        self.made += 1
        return Sequence(
            id=f"s{self.made}",
            request=GenerationRequest(tuple(prompt), Sampling(max_tokens), payer, exact),
            outlet=Outlet(None),  # type: ignore[arg-type]  # nobody reads
            detokenizer=Detokenizer(lambda ids: "x" * len(ids)),
        )

    def add(
        self, prompt: Many[int], max_tokens: int = 4, *, payer: str = "", exact: bool = False
    ) -> Sequence:
        """Queue a new sequence."""
        sequence = self.sequence(prompt, max_tokens, payer=payer, exact=exact)
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> Step:
        """Schedule, compute, take tokens and free what ended."""
        step = self.scheduler.schedule()
        results = self.forward.run(step.spans)
        for sequence in step.left:
            sequence.end_cancelled()
        for span, result in zip(step.spans, results, strict=True):
            self.scheduler.advance(span)
            if result is not None:
                sequence = span.sequence
                how = sequence.request.sampling
                sequence.append(choose(result.logits, how, sequence.position), frozenset())
        self.scheduler.drop_finished()
        self.ended += step.left
        self.ended += [span.sequence for span in step.spans if span.sequence.finished]
        self.steps += 1
        return step

    def run(self, most: int) -> None:
        """Step until nothing is left, at most `most` times."""
        for _ in range(most):
            if self.scheduler.idle:
                return
            self.step()
        if not self.scheduler.idle:
            raise AssertionError(f"not idle after {most} steps")
