"""An anchored entry is written anew, with everything after it numbered, linked and signed.

Caught by the auditor, check 2, after 3 calls.
Evidence: two signed heads, one anchored.
"""

from __future__ import annotations

from collections.abc import Sequence

from inference.audit.entry import Entry
from tests.liars.actor import Actor, calling
from tests.liars.false_log import FalseLog, signed_anew
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage


class Liar(FalseLog):
    def tell(self, entries: list[Entry], actor: Actor) -> Sequence[bytes]:
        return signed_anew(actor, [entries[0], *entries[2:]])


def catch(stage: Stage) -> Found:
    liar = Liar()
    with stage.node(liar) as actor:
        wallet = actor.wallet()
        wallet.run(calling(), calling())
        actor.node.settlement.anchor()
        wallet.call()
        liar.is_told = True
        return accused(actor, actor.audit())
