"""Answers that depend on the call alone are sold, and others are made.

Caught by the auditor, check 8, after 1 call.
Evidence: a signed receipt, and the model.
"""

from __future__ import annotations

from dataclasses import replace

from inference.receipt_format import Receipt
from tests.liars.finding import Found, accused
from tests.liars.honest import Teller
from tests.liars.stage import Stage


class Liar(Teller):
    def say(self, honest: Receipt) -> Receipt:
        engine = honest.runtime.engine.removesuffix(" exact")
        return replace(honest, runtime=replace(honest.runtime, engine=engine))


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        answer = actor.wallet().call()
        return accused(actor, actor.audit(replayed=[answer]))
