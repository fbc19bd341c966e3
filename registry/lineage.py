"""Where a model came from: every record above it, read at one block."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from registry.chain.block import BlockRef
from registry.errors import PolicyError
from registry.record import Record


class RecordSource(Protocol):
    """Whatever can answer for records: the ModelRegistry contract."""

    @property
    def chain_id(self) -> int:
        """The chain it is on."""

    @property
    def address(self) -> str:
        """Its contract."""

    def record(self, id: bytes, *, block: BlockRef | None = None) -> Record:
        """Return a record at a block. Raises `RecordUnknownError`."""


def ancestors(
    registry: RecordSource, record: Record, *, block: BlockRef | None, limit: int
) -> Iterator[Record]:
    """Yield every record that `record` came from, nearest first, each once.

    Raises `PolicyError` beyond `limit` of them: on chain a lineage is finite, but it may be longer
    than anybody wants to walk, and an endpoint that lies could make it endless.
    """
    seen = {record.id}
    waiting = deque(record.parents)
    while waiting:
        id = waiting.popleft()
        if id in seen:
            continue
        if len(seen) > limit:
            raise PolicyError(
                f"record 0x{record.id.hex()} has more than {limit} ancestors",
                hint="raise policy.max_ancestors if that is right",
            )
        seen.add(id)
        found = registry.record(id, block=block)
        yield found
        waiting.extend(found.parents)
