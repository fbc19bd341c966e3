"""The call is charged and logged, and the payer is told that it failed.

Caught by the payer's client, check 5, after 1 call.
Evidence: a signed receipt, and the payer's word.
"""

from __future__ import annotations

from dataclasses import replace

from tests.liars.actor import Actor
from tests.liars.finding import Found, refused
from tests.liars.honest import Honest
from tests.liars.stage import Stage
from tests.liars.wire import WireAnswer


class Liar(Honest):
    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        if not answer.settlement:
            return answer
        return replace(answer.saying({"error": {"code": "busy", "message": "no"}}), status=503)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        return refused(actor, actor.wallet().call)
