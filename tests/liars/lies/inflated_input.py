"""Two tokens more are counted than the prompt has, in offer and receipt alike.

Caught by the auditor, check 8, after 1 call.
Evidence: a signed receipt, and the model.
"""

from __future__ import annotations

from inference.catalog import CatalogEntry
from inference.statements import Statements
from inference.work import Work
from tests.liars.finding import Found, accused
from tests.liars.honest import Honest
from tests.liars.stage import Stage


class Counter(Statements):
    def check(self, entry: CatalogEntry, work: Work) -> None:
        # Before the quote is made: offer and charge follow from the false count.
        work.input_tokens += 2
        super().check(entry, work)


class Liar(Honest):
    def statements(self, honest: Statements) -> Statements:
        return Counter(honest.signer, honest.domain)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        answer = actor.wallet().call()
        return accused(actor, actor.audit(replayed=[answer]))
