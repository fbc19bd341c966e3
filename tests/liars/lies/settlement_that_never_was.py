"""The log tells of a refund that the chain does not know.

Caught by the auditor, check 5, after 1 call.
Evidence: the signed log, and the chain.
"""

from __future__ import annotations

from inference.audit.bodies import SettlementBody, entry_of
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage


def catch(stage: Stage) -> Found:
    with stage.node() as actor:
        actor.wallet().call()
        log, database = actor.node.log, actor.node.database
        token = stage.workspace.config.contracts.dev_usd or ""
        told = SettlementBody("refund", token, 500, (), b"\x14" * 32, 5, 50_000)
        database.write_now(lambda tx: log.append(tx, entry_of(log.size(tx), told)))
        return accused(actor, actor.audit())
