"""The receipt prices the call at twice what the payer accepted.

Caught by the payer's client, check 5, after 1 call.
Evidence: a signed receipt, and the payer's word.
"""

from __future__ import annotations

from dataclasses import replace

from inference.receipt_format import Receipt
from tests.liars.finding import Found, refused
from tests.liars.honest import Teller
from tests.liars.stage import Stage


class Liar(Teller):
    def say(self, honest: Receipt) -> Receipt:
        payment, price = honest.payment, honest.payment.price
        dearer = replace(
            price,
            per_call=2 * price.per_call,
            input_per_million=2 * price.input_per_million,
            output_per_million=2 * price.output_per_million,
        )
        doubled = {name: 2 * getattr(payment, name) for name in ("quote", "charged", "cumulative")}
        return replace(honest, payment=replace(payment, price=dearer, **doubled))


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        return refused(actor, actor.wallet().call)
