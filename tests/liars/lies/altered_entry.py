"""An entry is shown otherwise than the signed head holds it.

Caught by the auditor, check 3, after 2 calls.
Evidence: the signed log.
"""

from __future__ import annotations

from collections.abc import Sequence

from inference.audit.entry import Entry
from tests.liars.actor import Actor, calling
from tests.liars.false_log import FalseLog, signed_anew
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage
from tests.liars.wire import WireAnswer


class Liar(FalseLog):
    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        # The entries alone: checkpoint and proofs are those of the honest log.
        return super().wire(answer, actor) if answer.path.endswith("/entries") else answer

    def tell(self, entries: list[Entry], actor: Actor) -> Sequence[bytes]:
        return signed_anew(actor, [*entries[:-2], entries[-1], entries[-2]])


def catch(stage: Stage) -> Found:
    liar = Liar()
    with stage.node(liar) as actor:
        actor.wallet().run(calling(), calling())
        liar.is_told = True
        return accused(actor, actor.audit())
