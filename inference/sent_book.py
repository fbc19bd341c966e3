"""The node's transactions as rows: known before they leave, told to the log once.

::

    waiting ──► mined ──► noted     noted: the log tells of it, in the same database transaction
       ├──────► failed              mined and reverted
       └──────► lost                another version, or another program's, took the nonce

A node that was stopped after it sent, or after the chain mined, finds here what to ask the chain
about and what its log has not been told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from inference.database import Database
from inference.schema import transactions as _TABLE
from registry.chain.fees import Fees
from registry.chain.nonces import Outcome
from registry.chain.signed import Sent

# Longer than an endpoint may take to answer whoever sends now; in seconds.
_PATIENCE_S: Final = 60
_LINE: Final = select(_TABLE).where(_TABLE.c.state == "waiting")
_IN_ORDER: Final = (_TABLE.c.nonce, _TABLE.c.sent_at, _TABLE.c.tip)


@dataclass(frozen=True)
class SentBook:
    """Keeps the lines of `registry.chain.nonces` in the node's database."""

    database: Database

    @contextmanager
    def exclusive(self, sender: str) -> Iterator[None]:
        """Hold the key's line alone, whichever process uses the key."""
        with self.database.exclusive("sending", wait_s=_PATIENCE_S):
            yield

    def add(self, sent: Sent) -> None:
        """Keep a version that is about to leave; it is on disk when this returns."""
        values = {
            "hash": _text(sent.hash),
            "sender": sent.sender,
            "nonce": sent.nonce,
            "doing": sent.doing,
            "tip": sent.fees.tip,
            "most": sent.fees.most,
            "raw": sent.raw,
            "sent_at": int(sent.sent_at),
            "state": "waiting",
        }
        self.database.write_now(lambda tx: tx.execute(insert(_TABLE).values(values)) and None)

    def forget(self, sent: Sent) -> None:
        """Drop a version that was refused."""
        mine = _TABLE.c.hash == _text(sent.hash)
        self.database.write_now(lambda tx: tx.execute(delete(_TABLE).where(mine)) and None)

    def line(self, sender: str) -> Sequence[Sent]:
        """Return the undecided versions of a key, by nonce and then oldest first."""
        query = _LINE.where(_TABLE.c.sender == sender)
        rows = self.database.read(lambda tx: tx.execute(query).all())
        found = [
            Sent(
                sender=row.sender,
                nonce=row.nonce,
                hash=bytes.fromhex(row.hash[2:]),
                raw=bytes(row.raw),
                fees=Fees(row.tip, row.most),
                doing=row.doing,
                sent_at=row.sent_at,
            )
            for row in rows
        ]
        # Amounts are decimal text: the database would sort them as words.
        return sorted(found, key=lambda sent: (sent.nonce, sent.fees.most))

    def end(self, sent: Sent, outcome: Outcome) -> None:
        """Keep the outcome of a version: all others of its nonce are lost."""
        this = _TABLE.c.hash == _text(sent.hash)
        line = (
            _TABLE.c.sender == sent.sender,
            _TABLE.c.nonce == sent.nonce,
            _TABLE.c.state == "waiting",
        )

        def end(tx: Connection) -> None:
            decided = {"raw": b"", "state": outcome}
            tx.execute(update(_TABLE).where(this, *line).values(decided))
            tx.execute(update(_TABLE).where(*line).values(decided | {"state": "lost"}))

        self.database.write_now(end)

    def unnoted(self, tx: Connection, doing: Sequence[str]) -> list[tuple[str, bytes]]:
        """Return what was mined and the log does not tell of: what it did, its hash; by nonce."""
        query = select(_TABLE).where(_TABLE.c.state == "mined", _TABLE.c.doing.in_(doing))
        rows = tx.execute(query.order_by(_TABLE.c.nonce))
        return [(row.doing, bytes.fromhex(row.hash[2:])) for row in rows]

    def fail(self, tx_hash: bytes) -> None:
        """Keep that a transaction, mined before, was mined again elsewhere and reverted."""
        mine = _TABLE.c.hash == _text(tx_hash)
        failed = update(_TABLE).where(mine).values(state="failed")
        self.database.write_now(lambda tx: tx.execute(failed) and None)

    def take(self, tx: Connection, tx_hash: bytes) -> bool:
        """Say whether the log is yet to be told of a transaction, and keep that it was."""
        mine = _TABLE.c.hash == _text(tx_hash)
        taken = update(_TABLE).where(mine, _TABLE.c.state == "mined").values(state="noted")
        if tx.execute(taken).rowcount:
            return True
        # One that was sent through another book is nobody else's to note.
        return tx.execute(select(_TABLE.c.state).where(mine)).first() is None


def _text(tx_hash: bytes) -> str:
    return f"0x{tx_hash.hex()}"
