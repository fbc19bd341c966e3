"""The answer was changed after the receipt for it was signed.

Caught by the payer's client, check 4, after 1 call.
Evidence: the answer.
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
        return replace(answer, body=answer.body.replace(b'"assistant"', b'"assistent"'))


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        return refused(actor, actor.wallet().call)
