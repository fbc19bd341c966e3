"""The receipt names another x402 receipt than the one that was issued beside it.

Caught by the payer's client, check 4, after 1 call.
Evidence: two signed statements.
"""

from __future__ import annotations

from dataclasses import replace

from inference.receipt_format import Receipt
from tests.liars.finding import Found, refused
from tests.liars.honest import Teller
from tests.liars.stage import Stage


class Liar(Teller):
    def say(self, honest: Receipt) -> Receipt:
        return replace(honest, payment=replace(honest.payment, x402_receipt=b"\x05" * 32))


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        return refused(actor, actor.wallet().call)
