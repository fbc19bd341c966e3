"""One call is entered and charged twice, under two names.

Caught by the auditor, check 4, after 1 call.
Evidence: two signed receipts.
"""

from __future__ import annotations

from dataclasses import replace

from inference.audit.entry import Entry
from inference.receipts import SignedReceipt
from tests.liars.actor import Actor
from tests.liars.false_log import FalseLog, signed_anew
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage
from tests.liars.wire import WireAnswer


class Liar(FalseLog):
    """The ledger tells the same lie: the sums are right."""

    is_told = True

    def tell(self, entries: list[Entry], actor: Actor) -> list[bytes]:
        *_, last = entries
        if last.kind != "receipt":
            return signed_anew(actor, entries)
        receipt = SignedReceipt.from_json(last.body).receipt
        payment = replace(
            receipt.payment, cumulative=receipt.payment.cumulative + receipt.payment.charged
        )
        again = replace(receipt, id=f"{receipt.id}2", payment=payment)
        twice = SignedReceipt(again, bytes(64) + b"\x1b").entry()
        return signed_anew(actor, [*entries, twice])

    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        if not answer.path.startswith("/v1/channels/"):
            return super().wire(answer, actor)
        said = answer.json
        told = {"cumulative": str(2 * int(said["cumulative"])), "size": said["size"] + 1}
        return answer.saying({**said, **told, "signedMax": said["balance"]})


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        actor.wallet().call()
        return accused(actor, actor.audit())
