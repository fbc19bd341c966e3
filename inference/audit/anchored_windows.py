"""The beacon's windows as the chain has them: anchored heads, and the blocks behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from inference.audit.anchor import AnchorEvent
from inference.audit.beacon import Window, windows
from registry.chain.block import Block
from registry.errors import ChainMismatchError

# Each window takes one question to the chain; of a longer history the newest part counts.
MAX_WINDOWS: Final = 1000


class Blocks(Protocol):
    """Whoever knows blocks."""

    def block_at(self, number: int) -> Block:
        """Return block `number`. Raises `ChainMismatchError` where there is none."""


def beacon_of(anchored: Sequence[AnchorEvent], origin: str, chain: Blocks) -> tuple[Window, ...]:
    """Return the windows of a log's anchored heads. Raises `ChainError` when nobody answers."""

    def block_hash(number: int) -> bytes | None:
        try:
            return chain.block_at(number).hash
        except ChainMismatchError:  # not there yet
            return None

    heads = [(event.size, event.block) for event in anchored]
    if len(heads) <= MAX_WINDOWS:
        return windows(heads, origin, block_hash)
    first, *newest = sorted(heads)[-MAX_WINDOWS - 1 :]
    # Entries below `first` have no rank here: their window begins where nobody looks.
    found = windows([first, *newest], origin, block_hash)
    return tuple(window for window in found if window.start)
