"""The answers another engine is asked for: who is under way, and what came of whom."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import TypeAlias

from inference.engine.sampling import Choice
from inference.engine.sequence import Sequence, deliver
from inference.errors import NodeError

# What came of a sequence in a step.
Outcome: TypeAlias = tuple[Sequence, Choice | NodeError]


class AnswerTable:
    """Sequences from their submission until they end. Safe to use from several threads.

    `ends` are the model's end tokens. Every change of a sequence is made here, under one lock.
    """

    def __init__(self, ends: frozenset[int]) -> None:
        self._ends = ends
        self._open: dict[str, Sequence] = {}
        self._lock = Lock()
        self.finished = self.failed = 0
        self.input_tokens = self.output_tokens = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, sequence: Sequence) -> None:
        """Take in a sequence that begins."""
        with self._lock:
            self._open[sequence.id] = sequence

    def find(self, id: str) -> Sequence | None:
        """Return a sequence that has not ended."""
        return self._open.get(id)

    def take(self, outcomes: Iterable[Outcome]) -> list[str]:
        """Hand on what came of sequences; return the ids of those that ended with it."""
        with self._lock:
            taken = []
            for sequence, outcome in outcomes:
                if sequence.finished:
                    continue
                if isinstance(outcome, NodeError):
                    sequence.fail(outcome)
                else:
                    sequence.append(outcome, self._ends)
                taken.append(sequence)
            deliver(taken)
            # `deliver` gives up those whose loop is closed.
            ended = [sequence for sequence in taken if sequence.finished or sequence.cancelled]
            return [self._close(sequence) for sequence in ended]

    def cancel(self, id: str) -> bool:
        """End a sequence because its reader left; return whether it was under way."""
        with self._lock:
            sequence = self._open.get(id)
            if sequence is None:
                return False
            sequence.end_cancelled()
            deliver([sequence])
            self._close(sequence)
            return True

    def fail_all(self, error: NodeError) -> None:
        """End everything with an error."""
        with self._lock:
            left = list(self._open.values())
            for sequence in left:
                sequence.fail(error)
                self._close(sequence)
            deliver(left)

    def _close(self, sequence: Sequence) -> str:
        del self._open[sequence.id]
        self.finished += 1
        self.failed += sequence.failed
        self.input_tokens += len(sequence.request.prompt_ids)
        self.output_tokens += sequence.made
        return sequence.id
