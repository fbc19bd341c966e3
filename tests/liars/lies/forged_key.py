"""The receipt is signed with another key than the node's.

Caught by the payer's client, check 4, after 1 call.
Evidence: the answer.
"""

from __future__ import annotations

from typing import Any

from inference.receipts import SignedReceipt, signing_digest
from inference.statements import Statement, Statements
from tests.inference.receipt_samples import STRANGER
from tests.liars.finding import Found, refused
from tests.liars.honest import Honest, telling
from tests.liars.stage import Stage


class Forger(Statements):
    def about(self, *args: Any, **more: Any) -> Statement:
        honest = super().about(*args, **more)
        before = honest.receipt
        signature = STRANGER.sign_digest(signing_digest(before.receipt, self.domain))
        return telling(honest, SignedReceipt(before.receipt, signature, before.salts))


class Liar(Honest):
    def statements(self, honest: Statements) -> Statements:
        return Forger(honest.signer, honest.domain)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        return refused(actor, actor.wallet().call)
