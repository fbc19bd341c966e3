"""The proof that a receipt is in the log proves nothing.

Caught by the auditor, check 7, after 1 call.
Evidence: a signed receipt, and the signed log.
"""

from __future__ import annotations

from tests.liars.actor import Actor
from tests.liars.finding import Found, accused
from tests.liars.honest import Honest
from tests.liars.stage import Stage
from tests.liars.wire import WireAnswer


class Liar(Honest):
    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        if answer.path != "/v1/log/proof/inclusion":
            return answer
        return answer.saying({**answer.json, "proof": ["0x" + "00" * 32]})


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        answer = actor.wallet().call()
        return accused(actor, actor.audit(answer.signed))
