"""The log holds a receipt that is dated back, as if its model had not been revoked yet.

Caught by the auditor, check 6, after 1 call.
Evidence: a signed receipt, and the chain.
"""

from __future__ import annotations

import pytest

from inference.errors import AuditError
from tests.liars.finding import Found, accused
from tests.liars.lies.back_dated_receipt import Liar
from tests.liars.stage import Stage


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        with pytest.raises(AuditError):  # what a payer with another client would not notice
            actor.wallet().call()
        return accused(actor, actor.audit())
