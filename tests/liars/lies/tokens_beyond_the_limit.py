"""More tokens are charged than the payer allowed.

Caught by the payer's client, check 5, after 1 call.
Evidence: a signed receipt.
"""

from __future__ import annotations

from dataclasses import replace

from inference.receipt_format import Receipt
from tests.liars.finding import Found, refused
from tests.liars.honest import Teller
from tests.liars.stage import Stage


class Liar(Teller):
    def say(self, honest: Receipt) -> Receipt:
        return replace(honest, tokens=replace(honest.tokens, output=honest.sampling.max_tokens + 1))


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        return refused(actor, actor.wallet().call)
