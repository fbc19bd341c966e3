"""Another prompt is answered than was asked, and the receipt states that one.

Caught by the auditor, check 8, after 1 call.
Evidence: a signed receipt, and the model.
"""

from __future__ import annotations

from dataclasses import replace

from inference.receipt_format import Receipt
from inference.receipts import token_digest
from tests.liars.finding import Found, accused
from tests.liars.honest import Teller
from tests.liars.stage import Stage


class Liar(Teller):
    def say(self, honest: Receipt) -> Receipt:
        other = replace(honest.tokens, input_digest=token_digest([1] * honest.tokens.input))
        return replace(honest, tokens=other)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        answer = actor.wallet().call()
        return accused(actor, actor.audit(replayed=[answer]))
