"""The settled end of a chain, which only ever grows: what was final once stays final.

Blocks that were final are remembered while the process lives. An endpoint that shows another block
in the place of one of them rewrites history, or lies; one that only lost its newest blocks lags.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Final

from registry.chain.block import Block
from registry.chain.connection import Chain
from registry.errors import ChainDisputedError, ChainMismatchError, ChainStaleError

# Final blocks remembered: enough to tell a chain that was rewritten from one that lags, for an
# hour on a chain that settles a block every few seconds.
_REMEMBERED: Final = 1024


class Settled:
    """Finds the newest settled block of a chain. Safe to use from several threads.

    `finality` is "finalized" or a number of confirmations. With "latest" or 0 nothing is settled:
    that is for devnets, whose owners reset them and go back to snapshots, so nothing is remembered.
    """

    def __init__(self, chain: Chain, finality: str | int) -> None:
        self._chain: Final = chain
        self._finality: Final = finality
        self._settles: Final = finality not in ("latest", 0)
        self._seen: Final[deque[Block]] = deque(maxlen=_REMEMBERED)
        self._lock: Final = Lock()

    def newest(self) -> Block:
        """Return the newest settled block, which is never below one that was returned before.

        Raises `ChainDisputedError` when a block that was final is another one now, and
        `ChainStaleError` when the chain ends below a block that was final.
        """
        with self._lock:
            found = self._chain.block(self._finality)
            if not self._settles:
                return found
            if self._seen:
                found = self._grown(found, self._seen[-1])
            if not self._seen or found.number > self._seen[-1].number:
                self._seen.append(found)
            return found

    def _grown(self, found: Block, last: Block) -> Block:
        try:
            now = found if found.number == last.number else self._chain.block_at(last.number)
        except ChainMismatchError as error:
            self._check_older(found)
            raise ChainStaleError(
                f"the chain at {self._chain.host} ends at final block {found.number}, "
                f"but block {last.number} was final before",
                hint="the RPC endpoint lags behind; use another one",
            ) from error
        self._check_same(last, now)
        return max(found, last, key=lambda block: block.number)

    def _check_older(self, found: Block) -> None:
        older = [block for block in self._seen if block.number <= found.number]
        if older:
            self._check_same(older[-1], self._chain.block_at(older[-1].number))

    def _check_same(self, before: Block, now: Block) -> None:
        if now.hash == before.hash:
            return
        host = self._chain.host
        was, has = f"0x{before.hash.hex()}", f"0x{now.hash.hex()}"
        raise ChainDisputedError(
            f"final block {before.number} of the chain at {host} was {was} and is {has} now",
            evidence=((f"{host} before", was), (f"{host} now", has)),
            hint="history was rewritten, or the endpoint lies; find out before restarting",
        )
