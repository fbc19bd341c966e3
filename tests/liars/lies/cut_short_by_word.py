"""The whole answer is delivered, and the receipt says that the payer left midway.

Caught by the payer's client, check 4, after 1 call.
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
        return replace(honest, status="partial")


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        return refused(actor, actor.wallet().call)
