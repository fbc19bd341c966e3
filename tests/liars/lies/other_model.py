"""A model is asked for by its ModelId, and another one answers.

Caught by the payer's client, check 4, after 1 call.
Evidence: a signed receipt, and the payer's word.
"""

from __future__ import annotations

from dataclasses import replace

from inference.receipt_format import Receipt
from tests.liars.actor import MODEL, ask
from tests.liars.finding import Found, refused
from tests.liars.honest import Teller
from tests.liars.stage import Stage


class Liar(Teller):
    def say(self, honest: Receipt) -> Receipt:
        return replace(honest, model=replace(honest.model, model_id=b"\x01" * 32))


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        asked = ask(model="0x" + stage.models[MODEL].hex())
        return refused(actor, lambda: actor.wallet().call(asked))
