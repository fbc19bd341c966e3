"""Succession: what a node's process left in flight is ended by whichever node lives.

A node that starts ends what ended processes left behind, its own earlier ones among them; a node
that serves looks for them all the time. Each is ended once, in one transaction, and only when its
process is certainly gone: then nothing of it can be committed any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from inference import instances
from inference.database import Database
from inference.payments.authorizations import AuthorizationBook
from inference.payments.ledger import ChannelLedger, Recovered


@dataclass(frozen=True)
class Succession:
    """Ends the instances of ended processes."""

    database: Database
    ledger: ChannelLedger
    authorizations: AuthorizationBook

    def end_dead(self) -> Sequence[Recovered]:
        """End every instance whose process is gone; return what each had in flight."""
        database = self.database
        others = database.read(lambda tx: instances.others(tx, database.instance))
        ended = [database.write_now(partial(self._end, instance=name)) for name in others]
        return [recovered for recovered in ended if recovered is not None]

    def _end(self, tx: Connection, *, instance: str) -> Recovered | None:
        if not self.database.is_dead(tx, instance) or not instances.end(tx, instance):
            return None
        self.authorizations.recover(tx, instance)
        return self.ledger.recover(tx, instance)
