"""Two payers are shown two logs of one size.

Caught by the auditor, check 2, after 2 calls.
Evidence: two signed heads.
"""

from __future__ import annotations

from collections.abc import Sequence

from inference.audit.entry import Entry
from tests.liars.actor import Actor
from tests.liars.false_log import FalseLog, signed_anew
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage


class Liar(FalseLog):
    def tell(self, entries: list[Entry], actor: Actor) -> Sequence[bytes]:
        return signed_anew(actor, [*entries[:-2], entries[-1], entries[-2]])


def catch(stage: Stage) -> Found:
    liar = Liar()
    with stage.node(liar) as actor:
        for wallet in (actor.wallet(), actor.wallet()):
            wallet.call()
        seen = actor.note()
        liar.is_told = True
        return accused(actor, actor.audit(known=[seen]))
