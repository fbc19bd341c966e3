"""The proof that the log extends an anchored head proves nothing.

Caught by the auditor, check 2, after 2 calls.
Evidence: two signed heads, one anchored.
"""

from __future__ import annotations

from tests.liars.actor import Actor
from tests.liars.finding import Found, accused
from tests.liars.honest import Honest
from tests.liars.stage import Stage
from tests.liars.wire import WireAnswer


class Liar(Honest):
    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        if answer.path != "/v1/log/proof/consistency":
            return answer
        return answer.saying({**answer.json, "proof": ["0x" + "00" * 32]})


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        wallet = actor.wallet()
        wallet.call()
        actor.node.settlement.anchor()
        wallet.call()
        return accused(actor, actor.audit())
