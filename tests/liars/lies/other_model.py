"""A model is asked for by its ModelId, and another one answers.

Caught by the payer's client, check 4, after 1 call.
Evidence: a signed receipt, and the payer's word.
"""

from __future__ import annotations

from dataclasses import replace

from inference.receipt_format import Receipt
from inference.statements import Statements
from tests.liars.actor import MODEL, ask
from tests.liars.finding import Found, refused
from tests.liars.honest import Honest, Voice
from tests.liars.stage import Stage


class Mouth(Voice):
    def say(self, honest: Receipt) -> Receipt:
        return replace(honest, model=replace(honest.model, model_id=b"\x01" * 32))


class Liar(Honest):
    def statements(self, honest: Statements) -> Statements:
        return Mouth.of(honest)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        asked = ask(model="0x" + stage.models[MODEL].hex())
        return refused(actor, lambda: actor.wallet().call(asked))
