"""The price offer that receipts name is shown with another price.

Caught by the auditor, check 5, after 1 call.
Evidence: the answer.
"""

from __future__ import annotations

from inference.payments.plans import Plans, Tier, Tiers
from tests.liars.actor import Actor
from tests.liars.finding import Found, accused
from tests.liars.honest import Honest
from tests.liars.stage import Stage
from tests.liars.wire import WireAnswer


class Liar(Honest):
    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        if not answer.path.startswith("/v1/prices/0x"):
            return answer
        offer = answer.json
        offer["exact"]["perCall"] = "1"
        return answer.saying(offer)


def catch(stage: Stage) -> Found:
    tiers = Plans(tiers=Tiers(30, (Tier(1000, 100),)))
    with stage.node(Liar(), plans=tiers) as actor:
        actor.wallet().call()
        return accused(actor, actor.audit())
