"""The receipt is signed with another key than the node's.

Caught by the payer's client, check 4, after 1 call.
Evidence: the answer.
"""

from __future__ import annotations

from inference.receipt_format import Receipt
from inference.receipts import SignedReceipt, signing_digest
from inference.statements import Statements
from tests.inference.receipt_samples import STRANGER
from tests.liars.finding import Found, refused
from tests.liars.honest import Honest, Voice
from tests.liars.stage import Stage


class Forger(Voice):
    def sign(self, receipt: Receipt, honest: SignedReceipt) -> SignedReceipt:
        signature = STRANGER.sign_digest(signing_digest(receipt, self.domain))
        return SignedReceipt(receipt, signature, honest.salts)


class Liar(Honest):
    def statements(self, honest: Statements) -> Statements:
        return Forger.of(honest)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        return refused(actor, actor.wallet().call)
