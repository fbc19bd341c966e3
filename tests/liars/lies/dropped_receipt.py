"""A call is charged and receipted, and never entered in the log.

Caught by the auditor, check 7, after 1 call.
Evidence: a signed receipt, and the signed log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection

from inference.audit.entry import RECEIPT, EncodedEntry, Entry
from inference.audit.log import AuditLog, LogPosition, NextPosition
from inference.audit.merkle import leaf_hash
from inference.sale import Till
from tests.liars.finding import Found, accused
from tests.liars.honest import Honest
from tests.liars.stage import Stage


@dataclass(frozen=True)
class Forgetful(AuditLog):
    def append(
        self, tx: Connection, entry: Entry | EncodedEntry, head: NextPosition | None = None
    ) -> LogPosition:
        if entry.kind == RECEIPT:
            return LogPosition(entry.seq, leaf_hash(entry.encode()), bytes(32))
        return super().append(tx, entry, head)


class Liar(Honest):
    def till(self, honest: Till) -> Till:
        return replace(honest, log=Forgetful(honest.log.origin))


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        answer = actor.wallet().call()
        return accused(actor, actor.audit(answer.signed))
