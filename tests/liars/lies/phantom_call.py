"""A call that nobody made is charged on the payer's channel, between two that it made.

Caught by the payer's client, check 5, after 2 calls.
Evidence: two signed receipts, and the payer's word.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from inference.receipt_format import Receipt
from inference.statements import Statements
from tests.liars.actor import calling
from tests.liars.finding import Found, refused
from tests.liars.honest import Honest, Voice
from tests.liars.stage import Stage


@dataclass(frozen=True)
class Padder(Voice):
    def say(self, honest: Receipt) -> Receipt:
        payment = honest.payment
        if payment.cumulative == payment.charged:
            return honest
        more = replace(payment, cumulative=payment.cumulative + payment.charged)
        return replace(honest, payment=more)


class Liar(Honest):
    def statements(self, honest: Statements) -> Statements:
        return Padder.of(honest)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        return refused(actor, lambda: actor.wallet().run(calling(), calling()))
