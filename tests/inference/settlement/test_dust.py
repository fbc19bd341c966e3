"""Claims are made when they are worth their gas, and dust only when a deadline forces it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from inference.claiming import BATCH_GAS, ROW_GAS, ClaimPolicy
from inference.payments.claim import Claim
from registry.chain.fees import GWEI
from tests.inference.payments.payer import Payer
from tests.inference.settlement.stall import Stall

# One coin for 2,000 dollars of six decimals: at 1 gwei, 1,000 gas cost 0.002 dollars.
COIN = 2_000 * 10**6
ALWAYS = 10**9
POLICY = ClaimPolicy(profit=10, coin_price=COIN, max_age_s=ALWAYS)
CONFIG = Payer().config
ROW = POLICY.least(ROW_GAS, GWEI)


def claims(*amounts: int, withdrawn: Sequence[int] = ()) -> list[Claim]:
    return [
        Claim(str(i), CONFIG, amount, b"", amount, 0, int(i in withdrawn))
        for i, amount in enumerate(amounts)
    ]


def chosen(policy: ClaimPolicy, found: list[Claim], *, age: int = 0) -> list[int]:
    since = {claim.channel_id: 1_000 for claim in found}
    return [
        int(claim.channel_id)
        for claim in policy.choose(found, since, gas_price=GWEI, now=1_000 + age)
    ]


def test_dust_is_left_alone() -> None:
    assert chosen(POLICY, claims(ROW - 1, 1, ROW - 1)) == []


def test_rows_that_are_worth_themselves_but_not_their_transaction_are_left_alone() -> None:
    assert chosen(POLICY, claims(ROW, ROW)) == []


def test_many_small_rows_pay_for_their_transaction_together_and_dust_stays_out() -> None:
    rows = 1 + BATCH_GAS // ROW_GAS
    found = claims(*[2 * ROW] * rows, ROW - 1)
    assert chosen(POLICY, found) == list(range(rows))


def test_what_gas_costs_decides() -> None:
    found = claims(POLICY.least(BATCH_GAS + ROW_GAS, GWEI))
    since = {"0": 0}
    assert POLICY.choose(found, since, gas_price=GWEI, now=0) == found
    assert POLICY.choose(found, since, gas_price=GWEI + 1, now=0) == []


def test_a_withdrawal_forces_dust_and_pays_for_what_is_worth_its_row() -> None:
    assert chosen(POLICY, claims(1, 1, ROW, withdrawn=[1])) == [1, 2]


def test_age_forces_dust() -> None:
    aging = ClaimPolicy(profit=10, coin_price=COIN, max_age_s=500)
    assert chosen(aging, claims(1, 1), age=499) == []
    assert chosen(aging, claims(1, 1), age=500) == [0, 1]


@pytest.mark.parametrize(("least", "expected"), [(0, [0, 1, 2]), (5, [1, 2]), (7, [])])
def test_without_a_price_of_the_coin_a_least_amount_decides(
    least: int, expected: list[int]
) -> None:
    policy = ClaimPolicy(min_amount=least, max_age_s=ALWAYS)
    assert chosen(policy, claims(1, 5, 6)) == expected


@pytest.mark.parametrize("gas_price", [1, 3, GWEI])
def test_what_is_claimed_is_never_below_so_many_times_its_cost(gas_price: int) -> None:
    amount = POLICY.least(ROW_GAS, gas_price)
    wei, one = ROW_GAS * gas_price * POLICY.profit * COIN, 10**18
    assert (amount - 1) * one < wei <= amount * one


def test_a_node_leaves_dust_until_it_is_old_whatever_is_restarted_meanwhile(stall: Stall) -> None:
    stall.restart(policy=ClaimPolicy(min_amount=50, max_age_s=3_600))
    small, large = stall.sell(49, 50)
    stall.settlement.tick()
    assert stall.claimed(small, large) == [0, 50]
    stall.restart()
    stall.settlement.tick()
    assert stall.claimed(small) == [0]
    stall.database.write_now(
        lambda tx: (
            tx.exec_driver_sql("UPDATE dues SET since = ?", (int(time.time()) - 3_600,)) and None
        )
    )
    stall.restart()
    stall.settlement.tick()
    assert stall.claimed(small) == [49]
    stall.charge((small, 60))
    stall.settlement.tick()
    assert stall.claimed(small) == [49]  # its time begins anew
    stall.settlement.tick(everything=True)
    assert stall.claimed(small) == [60]
    stall.reconcile(small, large)


def test_a_node_claims_dust_that_a_withdrawal_would_take(stall: Stall) -> None:
    stall.restart(policy=POLICY)
    payer, other = stall.sell(10, 10)
    stall.settlement.tick()
    assert stall.claimed(payer, other) == [0, 0]
    # What it leaves covers what is owed there.
    stall.withdraw(other, 990)
    stall.withdraw(payer, 995)
    stall.settlement.rescue()
    stall.settlement.tick()
    assert stall.claimed(payer, other) == [10, 0]


def test_a_node_waits_while_gas_is_dear_and_claims_when_it_is_cheap(stall: Stall) -> None:
    stall.restart(policy=ClaimPolicy(profit=1, coin_price=4 * 10**6, max_age_s=ALWAYS))
    # 95,500 gas cost less than 1,000 units at 2 gwei, and not at 100.
    [payer] = stall.sell(1_000)
    base_fee(stall, 100)
    stall.settlement.tick()
    assert stall.claimed(payer) == [0]
    base_fee(stall, 1)
    settled = stall.settlement.tick()
    assert stall.claimed(payer) == [1_000]
    assert settled.settled == 1_000


def base_fee(stall: Stall, gwei: int) -> None:
    stall.devnet.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(gwei * GWEI))
    stall.devnet.mine()
