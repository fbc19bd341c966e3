"""The forward pass, as the engine knows it: spans of tokens in, logits of next tokens out."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Protocol

from inference.engine.sampling import Logits, Peak
from inference.engine.sequence import Sequence


@dataclass(frozen=True)
class Span:
    """What one sequence computes in a step: `count` of its tokens, from the position `start`."""

    sequence: Sequence
    start: int
    count: int

    @property
    def tokens(self) -> list[int]:
        """Return the tokens to compute."""
        return self.sequence.tokens[self.start : self.start + self.count]

    @property
    def is_last(self) -> bool:
        """Return whether the next token's logits follow from it."""
        return self.start + self.count == len(self.sequence.tokens)


@dataclass(frozen=True)
class NextLogits:
    """The logits of a next token, shape (vocabulary,), float32; they last until the next pass.

    `peak` sums them up where the pass did so on its way.
    """

    logits: Logits
    peak: Peak | None = None


class Forward(Protocol):
    """A model that computes. Called by one thread at a time.

    It keeps keys and values in the blocks that `Sequence.blocks` names. `is_invariant` says that
    a sequence's logits are the same bit for bit whatever is computed beside it, and in however
    many spans. Computing a span again does no harm.
    """

    name: str
    is_invariant: bool

    def run(self, spans: Many[Span]) -> list[NextLogits | None]:
        """Compute spans together; return logits for those that are a sequence's last.

        Raises `GenerationError` when the pass fails, for lack of memory for example.
        """

    def close(self) -> None:
        """End what computes."""
