"""An answer is charged, and comes without a receipt.

Caught by the payer's client, check 4, after 1 call.
Evidence: the answer.
"""

from __future__ import annotations

from tests.liars.actor import Actor
from tests.liars.finding import Found, refused
from tests.liars.honest import Honest
from tests.liars.stage import Stage
from tests.liars.wire import WireAnswer


class Liar(Honest):
    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        if not answer.settlement:
            return answer
        settlement = answer.settlement
        del settlement["extensions"]
        return answer.settling(settlement)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        return refused(actor, actor.wallet().call)
