"""A block, and what a mined transaction left behind: the facts other code quotes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Block:
    """One block. `hash` is 32 bytes, `timestamp` Unix seconds by the chain's own clock."""

    number: int
    hash: bytes
    timestamp: int


# Which block a question is about: a whole block (pinned by its hash, so that a reorganisation
# is an error and not another answer), a number, or one of Ethereum's names.
BlockRef: TypeAlias = Block | int | str


@dataclass(frozen=True)
class Log:
    """One raw event log: the emitter, its topics and data, and where it stands."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    tx_hash: bytes
    index: int


@dataclass(frozen=True)
class TxReceipt:
    """A mined, successful transaction. `hash` is 32 bytes; `contract` where it created one."""

    hash: bytes
    block: int
    block_hash: bytes
    gas_used: int
    logs: tuple[Log, ...] = ()
    contract: str | None = None

    @property
    def text(self) -> str:
        """The transaction hash as 0x… text."""
        return f"0x{self.hash.hex()}"
