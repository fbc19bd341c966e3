"""Calls fail, and the log does not tell of them.

Caught by the auditor, check 7, after 1 call.
Evidence: a signed receipt, and the signed log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from inference.engine.sequence import Delta
from inference.errors import GenerationError, UnavailableError
from tests.liars.finding import Found, accused
from tests.liars.honest import Engine
from tests.liars.lies import dropped_receipt
from tests.liars.stage import Stage


class Broken(Engine):
    async def stream(self, id: str) -> AsyncIterator[Delta]:
        async for delta in super().stream(id):
            raise GenerationError("it broke")
            yield delta


class Liar(dropped_receipt.Liar):
    def engine(self, honest: Any, stage: Stage) -> Any:
        return Broken(honest)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        wallet = actor.wallet()
        with pytest.raises(UnavailableError):
            wallet.call()
        return accused(actor, actor.audit(*wallet.receipts))
