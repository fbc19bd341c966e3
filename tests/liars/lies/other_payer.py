"""The receipt is made out to somebody else.

Caught by the payer's client, check 4, after 1 call.
Evidence: a signed receipt, and the payer's word.
"""

from __future__ import annotations

from dataclasses import replace

from inference.receipt_format import Receipt
from tests.inference.receipt_samples import STRANGER
from tests.liars.finding import Found, refused
from tests.liars.honest import Teller
from tests.liars.stage import Stage


class Liar(Teller):
    def say(self, honest: Receipt) -> Receipt:
        return replace(honest, payment=replace(honest.payment, payer=STRANGER.address))


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        return refused(actor, actor.wallet().call)
