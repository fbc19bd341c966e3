"""An `exact` payment is said to have moved in a transaction that nobody sent.

Caught by the auditor, check 5, after 1 call.
Evidence: a signed receipt, and the chain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from inference.payments.token_contract import TokenContract
from inference.sale import Till
from registry.chain.block import TxReceipt
from registry.chain.connection import Chain
from registry.signing.signer import Signer
from tests.liars.finding import Found, accused
from tests.liars.honest import Honest
from tests.liars.stage import Stage


class Facilitator(TokenContract):
    def transfer(self, signer: Signer, *payment: Any) -> TxReceipt:
        return TxReceipt(b"\x13" * 32, 1, bytes(32), 50_000)


@dataclass
class Liar(Honest):
    chain: Chain

    def till(self, honest: Till) -> Till:
        mover = honest.cashier.mover
        token = Facilitator(self.chain, mover.token.address, mover.wallets)
        false = replace(mover, token=token)
        return replace(honest, cashier=replace(honest.cashier, mover=false))


def catch(stage: Stage) -> Found:
    with stage.node(Liar(stage.workspace.chain)) as actor:
        actor.wallet().call(scheme="exact")
        return accused(actor, actor.audit())
