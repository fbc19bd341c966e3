"""A number is left out in the log.

Caught by the auditor, check 3, after 2 calls.
Evidence: the signed log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from inference.audit.entry import Entry
from tests.liars.actor import Actor, calling
from tests.liars.false_log import FalseLog
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage


class Liar(FalseLog):
    def tell(self, entries: list[Entry], actor: Actor) -> Sequence[bytes]:
        *before, last = entries
        return [entry.encode() for entry in (*before, replace(last, seq=last.seq + 1))]


def catch(stage: Stage) -> Found:
    liar = Liar()
    with stage.node(liar) as actor:
        actor.wallet().run(calling(), calling())
        liar.is_told = True
        return accused(actor, actor.audit())
