"""The beacon: which calls are replayed follows from a block that nobody could foresee.

An anchored checkpoint covers the entries that no earlier one covered. The hash of the first block
after the one in which it was anchored is not known to the node when it commits itself to them, and
gives each of them its rank: a number that is as good as random. The calls of the lowest ranks are
replayed. An entry's rank follows from the first checkpoint that covers it, so that anchoring again
throws no dice a second time; whoever replays more calls replays those of others too.

Format 1, for ever: seed = sha256("weightproof/beacon@1" ‖ 0 ‖ block hash ‖ size ‖ origin), rank =
sha256(seed ‖ index), with size and index as eight big-endian bytes and ranks as big-endian numbers.

Who makes blocks can throw one away whose hash it dislikes, at the price of the block. That costs
more than most lies earn, and with n ranks to dodge it must throw again and again.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

from inference.errors import NodeError

# A rate of so many is every call.
EVERY: Final = 10_000
_PREFIX: Final = b"weightproof/beacon@1\0"
_HASH_BYTES: Final = 32
_RANKS: Final = 1 << 256


class BeaconError(NodeError):
    """A block hash, size or index that cannot be one."""

    code = "bad_beacon"


@dataclass(frozen=True)
class Window:
    """The entries from `start` to before `size`, and the 32-byte seed of their ranks."""

    start: int
    size: int
    seed: bytes

    def rank(self, index: int) -> int:
        """Return the rank of an entry, below 2^256. Raises `BeaconError` for another window's."""
        if not self.start <= index < self.size:
            raise BeaconError(f"entry {index} is not among {self.start} to {self.size - 1}")
        digest = hashlib.sha256(self.seed + index.to_bytes(8, "big")).digest()
        return int.from_bytes(digest, "big")

    def chooses(self, index: int, rate: int) -> bool:
        """Say whether an entry is among the `rate` of ten thousand that are chosen at that rate."""
        return self.rank(index) * EVERY < rate * _RANKS


def seed(block_hash: bytes, origin: str, size: int) -> bytes:
    """Return the 32-byte seed of the window that ends at `size`, of the log `origin`.

    Raises `BeaconError` for a hash that is not 32 bytes.
    """
    if len(block_hash) != _HASH_BYTES:
        raise BeaconError(f"a block hash has 32 bytes, not {len(block_hash)}")
    return hashlib.sha256(_PREFIX + block_hash + size.to_bytes(8, "big") + origin.encode()).digest()


def windows(
    anchored: Iterable[tuple[int, int]], origin: str, block_hash: Callable[[int], bytes | None]
) -> tuple[Window, ...]:
    """Return a log's windows, oldest first. `anchored` are sizes and the blocks they stand in.

    `block_hash` gives a block's hash by its number, None for a block that is not there yet: its
    window is left out until it is.
    """
    found: list[Window] = []
    start = 0
    for size, block in sorted(anchored):
        if size <= start:
            continue  # anchored twice: the first time counts
        if (hashed := block_hash(block + 1)) is not None:
            found.append(Window(start, size, seed(hashed, origin, size)))
        start = size
    return tuple(found)


def window_of(known: Sequence[Window], index: int) -> Window | None:
    """Return the window of an entry, None where no checkpoint covers it yet."""
    place = bisect_right(known, index, key=lambda window: window.start) - 1
    if place < 0 or index >= known[place].size:
        return None
    return known[place]


def chosen(known: Sequence[Window], eligible: Iterable[int], number: int) -> tuple[int, ...]:
    """Return the `number` entries of the lowest ranks among `eligible`, lowest first."""
    ranked = (
        (window.rank(index), index)
        for index in eligible
        if (window := window_of(known, index)) is not None
    )
    return tuple(index for _, index in nsmallest(number, ranked))
