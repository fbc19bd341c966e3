"""A call that nobody made is charged on the payer's channel, between two that it made.

Caught by the payer's client, check 5, after 2 calls.
Evidence: two signed receipts, and the payer's word.
"""

from __future__ import annotations

from dataclasses import replace

from inference.receipt_format import Receipt
from tests.liars.actor import calling
from tests.liars.finding import Found, refused
from tests.liars.honest import Teller
from tests.liars.stage import Stage


class Liar(Teller):
    def say(self, honest: Receipt) -> Receipt:
        payment = honest.payment
        if payment.cumulative == payment.charged:
            return honest
        more = replace(payment, cumulative=payment.cumulative + payment.charged)
        return replace(honest, payment=more)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        return refused(actor, lambda: actor.wallet().run(calling(), calling()))
