"""Which blocks of the cache hold the keys and values of which tokens.

The cache is divided into blocks of sixteen tokens. A sequence gets all the blocks it can ever need
when it is admitted, so the cache is never promised twice. A full block can be read by later prompts
of the same payer that begin with the same tokens: what was computed is not computed again. Payers
do not share: how fast an answer begins would tell one what another has asked.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

# Tokens in a block: what the kernels look at in one vector.
BLOCK: Final = 16


@dataclass(frozen=True)
class Held:
    """Blocks taken for a sequence; the first `known` tokens of it are computed in them already."""

    blocks: list[int]
    known: int


class Blocks:
    """The blocks 0 to `total` - 1: free, used by sequences, or kept for a prompt that may come.

    Used by one thread at a time.
    """

    def __init__(self, total: int) -> None:
        self.total: Final = total
        self._free = list(range(total - 1, -1, -1))
        self._users = [0] * total
        self._names: dict[int, bytes] = {}
        self._known: dict[bytes, int] = {}
        # Named blocks that nobody uses, the one that was used longest ago first.
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Return how many blocks could be taken now."""
        return len(self._free) + len(self._idle)

    @property
    def used(self) -> int:
        """Return how many blocks sequences use."""
        return self.total - self.available

    def take(self, size: int, names: Sequence[bytes] = ()) -> Held | None:
        """Take blocks for `size` tokens, or none and return None where they do not fit now.

        `names` are those of the blocks it begins with: what is known of them is not computed again.
        """
        found = self._find(names)
        idle = sum(1 for block in found if not self._users[block])
        fresh = blocks_for(size) - len(found)
        if fresh > self.available - idle:
            return None
        for block in found:
            self._idle.pop(block, None)
            self._users[block] += 1
        return Held([*found, *(self._take() for _ in range(fresh))], len(found) * BLOCK)

    def name(self, block: int, name: bytes) -> None:
        """Say what a block holds that is fully computed, for prompts that come later."""
        if name not in self._known and block not in self._names:
            self._known[name], self._names[block] = block, name

    def give_back(self, blocks: Sequence[int]) -> None:
        """Take back a sequence's blocks, given in their order.

        Named ones are kept until their room is needed, the last one's first: without those before
        it a block could not be found again.
        """
        for block in reversed(blocks):
            self._users[block] -= 1
            if self._users[block]:
                continue
            if block in self._names:
                self._idle[block] = None
            else:
                self._free.append(block)

    def _find(self, names: Sequence[bytes]) -> list[int]:
        found = []
        for name in names:
            if name not in self._known:
                break
            found.append(self._known[name])
        return found

    def _take(self) -> int:
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._idle.popitem(last=False)
            del self._known[self._names.pop(block)]
        self._users[block] = 1
        return block


def names_of(payer: str, tokens: Sequence[int], names: Sequence[bytes] = ()) -> list[bytes]:
    """Return a name for each full block of `tokens`: a digest of the payer and all tokens up to it.

    `names` are those that are known already.
    """
    found = list(names)
    last = found[-1] if found else hashlib.sha256(b"payer\0" + payer.encode()).digest()
    for start in range(len(found) * BLOCK, len(tokens) - BLOCK + 1, BLOCK):
        packed = np.asarray(tokens[start : start + BLOCK], dtype="<i8").tobytes()
        last = hashlib.sha256(last + packed).digest()
        found.append(last)
    return found


def blocks_for(tokens: int) -> int:
    """Return how many blocks hold `tokens` tokens."""
    return -(-tokens // BLOCK)
