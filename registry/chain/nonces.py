"""The line of a key's transactions: what was signed under which nonce and is not decided yet.

One nonce may have several versions, each offering higher fees than the one before; the chain mines
one of them at most. A version is in the book before its bytes leave, so that whoever opens the book
next knows everything that may still be mined.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Literal, Protocol, TypeAlias

from registry.chain.signed import Sent

# mined: it happened; failed: it was mined and reverted; lost: another transaction took its nonce.
Outcome: TypeAlias = Literal["mined", "failed", "lost"]
# Two threads with one key must not take the same nonce, whichever connection they use.
_locks: Final[defaultdict[str, threading.Lock]] = defaultdict(threading.Lock)


class NonceBook(Protocol):
    """Where a key's line is kept."""

    def exclusive(self, sender: str) -> AbstractContextManager[None]:
        """Hold the key's line alone: nobody else takes, raises or fills a nonce meanwhile."""

    def add(self, sent: Sent) -> None:
        """Keep a version that is about to leave."""

    def forget(self, sent: Sent) -> None:
        """Drop a version that was refused: it never joined the line."""

    def line(self, sender: str) -> Sequence[Sent]:
        """Return every version whose nonce is not decided, by nonce and then oldest first."""

    def end(self, sent: Sent, outcome: Outcome) -> None:
        """Keep the outcome of a version, which decides its nonce: all others of it are lost."""


class MemoryBook:
    """A line that is forgotten with its process; the first choice of whoever moves no money."""

    def __init__(self) -> None:
        self._line: Final[list[Sent]] = []

    @contextmanager
    def exclusive(self, sender: str) -> Iterator[None]:
        """Hold the key's line alone within this process."""
        with _locks[sender]:
            yield

    def add(self, sent: Sent) -> None:
        """Keep a version."""
        self._line.append(sent)

    def forget(self, sent: Sent) -> None:
        """Drop a version."""
        self._line.remove(sent)

    def line(self, sender: str) -> Sequence[Sent]:
        """Return the undecided versions of a key."""
        mine = [sent for sent in self._line if sent.sender == sender]
        return sorted(mine, key=lambda sent: sent.nonce)

    def end(self, sent: Sent, outcome: Outcome) -> None:
        """Drop all versions of a nonce."""
        place = (sent.sender, sent.nonce)
        self._line[:] = [other for other in self._line if (other.sender, other.nonce) != place]
