"""The newest entries are hidden from whoever asks, after they were anchored.

Caught by the auditor, check 2, after 2 calls.
Evidence: two signed heads, one anchored.
"""

from __future__ import annotations

from collections.abc import Sequence

from inference.audit.entry import Entry
from tests.liars.actor import Actor, calling
from tests.liars.false_log import FalseLog
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage


class Liar(FalseLog):
    def tell(self, entries: list[Entry], actor: Actor) -> Sequence[bytes]:
        return [entry.encode() for entry in entries[:2]]


def catch(stage: Stage) -> Found:
    liar = Liar()
    with stage.node(liar) as actor:
        actor.wallet().run(calling(), calling())
        actor.node.settlement.anchor()
        liar.is_told = True
        return accused(actor, actor.audit())
