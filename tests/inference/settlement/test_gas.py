"""What a claim takes, measured: the figures by which a claim is worth its gas."""

from __future__ import annotations

import pytest

from inference.claiming import BATCH_GAS, ROW_GAS, SETTLE_GAS
from tests.inference.settlement.stall import Stall


@pytest.mark.parametrize("rows", [1, 10, 25])
def test_a_claim_and_its_settle_take_what_the_policy_reckons_with(stall: Stall, rows: int) -> None:
    stall.sell(7)  # whoever receives its first token pays for the place it is kept in
    stall.settlement.tick()
    stall.sell(*[100] * rows)
    stall.settlement.tick()
    claim, settle = (int(stall.notes(action)[-1]["gasUsed"]) for action in ("claim", "settle"))
    assert settle <= SETTLE_GAS
    assert 0.95 < (claim + settle) / (BATCH_GAS + ROW_GAS * rows) <= 1
