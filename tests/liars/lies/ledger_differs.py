"""The ledger says another sum of a channel than its receipts.

Caught by the auditor, check 5, after 1 call.
Evidence: a signed receipt, and the answer.
"""

from __future__ import annotations

from tests.liars.actor import Actor
from tests.liars.finding import Found, accused
from tests.liars.honest import Honest
from tests.liars.stage import Stage
from tests.liars.wire import WireAnswer


class Liar(Honest):
    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        if not answer.path.startswith("/v1/channels/"):
            return answer
        said = answer.json
        return answer.saying({**said, "cumulative": str(int(said["cumulative"]) + 1)})


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        actor.wallet().call()
        return accused(actor, actor.audit())
