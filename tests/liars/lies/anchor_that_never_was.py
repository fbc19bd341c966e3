"""The log tells of an anchoring that the chain does not know.

Caught by the auditor, check 3, after 1 call.
Evidence: the signed log, and the chain.
"""

from __future__ import annotations

from inference.audit.bodies import AnchorBody, entry_of
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage


def catch(stage: Stage) -> Found:
    with stage.node() as actor:
        actor.wallet().call()
        log, database = actor.node.log, actor.node.database
        told = AnchorBody(1, b"\x13" * 32, b"\x14" * 32, 5, 50_000)
        database.write_now(lambda tx: log.append(tx, entry_of(log.size(tx), told)))
        return accused(actor, actor.audit())
