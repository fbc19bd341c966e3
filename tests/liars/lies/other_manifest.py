"""The receipt names another manifest than the chain records for the model.

Caught by the auditor, check 6, after 1 call.
Evidence: a signed receipt, and the chain.
"""

from __future__ import annotations

from dataclasses import replace

from inference.receipt_format import Receipt
from tests.liars.finding import Found, accused
from tests.liars.honest import Teller
from tests.liars.stage import Stage


class Liar(Teller):
    def say(self, honest: Receipt) -> Receipt:
        return replace(honest, model=replace(honest.model, manifest_digest=b"\x13" * 32))


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        actor.wallet().call()
        return accused(actor, actor.audit())
