"""Two receipts have changed their places in the log.

Caught by the auditor, check 4, after 2 calls.
Evidence: a signed receipt, and the signed log.
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
        *before, last, first = entries
        swapped = [*before, replace(first, seq=last.seq), replace(last, seq=first.seq)]
        return [entry.encode() for entry in swapped]


def catch(stage: Stage) -> Found:
    liar = Liar()
    with stage.node(liar) as actor:
        actor.wallet().run(calling(), calling())
        liar.is_told = True
        return accused(actor, actor.audit())
