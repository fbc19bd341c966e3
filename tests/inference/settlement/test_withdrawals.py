"""A payer asks for its money back: what is owed is claimed before the contract lets it go."""

from __future__ import annotations

import time

import pytest

from inference.errors import CorrectivePaymentError
from inference.payments.channel import MIN_WITHDRAW_DELAY_S
from registry.errors import ChainError
from tests.fakes.rpc_proxy import rpc_proxy
from tests.inference.payments.payer import Payer
from tests.inference.settlement.stall import Stall, account, name


def mirrored(stall: Stall, payer: Payer) -> int:
    """What a call may sign for at most, as the ledger has it."""
    found = stall.database.read(account(stall.shop.cashier.ledger, payer))
    assert found is not None
    return int(found.chain.usable)


def looked(stall: Stall) -> Stall:
    """Past its first look, which reads every channel."""
    stall.settlement.rescue()
    return stall


def test_a_channel_takes_no_call_that_its_withdrawal_endangers(stall: Stall) -> None:
    [payer] = stall.sell(100)
    looked(stall)
    stall.withdraw(payer, 600)
    stall.settlement.rescue()
    assert mirrored(stall, payer) == 400
    with pytest.raises(CorrectivePaymentError) as caught:
        stall.charge((payer, 401))
    assert caught.value.code == "invalid_batch_settlement_evm_cumulative_exceeds_balance"
    assert int(str(caught.value.extra["channelState"]["withdrawRequestedAt"])) > 0  # type: ignore[index]  # a JSON object
    stall.charge((payer, 400))
    # Up to what the withdrawal leaves, all stays claimable however late.
    stall.devnet.pass_time(MIN_WITHDRAW_DELAY_S)
    stall.finalize(payer)
    stall.settlement.tick()
    assert stall.claimed(payer) == [400]
    assert stall.incidents() == []
    stall.reconcile(payer)


def test_what_a_withdrawal_endangers_is_claimed_at_the_next_look_and_nothing_else(
    stall: Stall,
) -> None:
    endangered, safe, other = stall.sell(800, 300, 900)
    looked(stall)
    stall.withdraw(endangered, 600)
    stall.withdraw(safe, 600)
    assert stall.settlement.rescue().channels == 1
    assert stall.claimed(endangered, safe, other) == [800, 0, 0]
    assert stall.settlement.rescue().channels == 0
    stall.devnet.pass_time(MIN_WITHDRAW_DELAY_S)
    stall.finalize(endangered)
    stall.finalize(safe)
    stall.settlement.tick()
    assert stall.claimed(endangered, safe, other) == [800, 300, 900]
    assert stall.incidents() == []
    stall.reconcile(endangered, safe, other)


def test_a_withdrawal_that_was_asked_for_while_the_node_was_down_is_seen_at_its_first_look(
    stall: Stall,
) -> None:
    [payer] = stall.sell(800)
    stall.withdraw(payer, 600)
    stall.devnet.mine(100)
    stall.restart()
    assert stall.settlement.rescue().amount == 800
    assert stall.claimed(payer) == [800]


def test_calls_in_flight_when_a_withdrawal_comes_are_claimed_when_they_have_ended(
    stall: Stall,
) -> None:
    [payer] = stall.sell(100)
    looked(stall)
    ledger, now = stall.shop.cashier.ledger, int(time.time())
    taken = stall.database.write_now(
        lambda tx: ledger.reserve(tx, payer.pays(900, now=now), quote=800, now=now)
    )
    stall.withdraw(payer, 800)
    stall.settlement.rescue()
    assert stall.claimed(payer) == [0]  # 100 are owed, 200 remain whatever happens
    stall.database.write_now(lambda tx: ledger.commit(tx, taken, 700))
    assert stall.settlement.rescue().amount == 800
    assert stall.claimed(payer) == [800]


def test_the_withdrawals_of_others_channels_are_nobodys_here(stall: Stall) -> None:
    looked(stall)
    [payer] = stall.sell(800)
    stall.database.write_now(lambda tx: tx.exec_driver_sql("DELETE FROM reservations") and None)
    stall.database.write_now(lambda tx: tx.exec_driver_sql("DELETE FROM channels") and None)
    stall.withdraw(payer, 100)
    assert stall.settlement.rescue().channels == 0
    assert stall.entries() == []


def test_what_a_withdrawal_took_while_the_node_was_down_is_told_once_with_its_figures(
    stall: Stall,
) -> None:
    lost, kept = stall.sell(800, 300)
    stall.withdraw(lost, 600)
    stall.withdraw(kept, 600)
    stall.devnet.pass_time(MIN_WITHDRAW_DELAY_S)
    stall.finalize(lost)
    stall.finalize(kept)
    stall.restart()
    stall.settlement.tick()
    stall.settlement.tick()
    stall.settlement.rescue()
    assert stall.claimed(lost, kept) == [400, 300]
    [(incident, subject, detail)] = stall.incidents()
    assert (incident, subject) == ("withdrawn unclaimed", name(lost))
    assert detail.startswith("400 of 800 owed were withdrawn before they were claimed")
    assert "held 400, 0 of it claimed" in detail
    stall.reconcile(lost, kept)


def test_what_was_lost_is_claimed_when_its_payer_deposits_again(stall: Stall) -> None:
    [payer] = stall.sell(800)
    stall.withdraw(payer, 600)
    stall.devnet.pass_time(MIN_WITHDRAW_DELAY_S)
    stall.finalize(payer)
    stall.settlement.tick()
    assert stall.claimed(payer) == [400]
    stall.deposit(payer, 500)
    stall.settlement.withdrawals.refresh([name(payer)])
    stall.settlement.tick()
    assert stall.claimed(payer) == [800]
    stall.reconcile(payer)


def test_a_look_that_failed_is_made_up_for_by_the_next(stall: Stall) -> None:
    with rpc_proxy(stall.devnet.rpc_url) as proxy:
        stall.restart(url=proxy.url)
        [payer] = stall.sell(800)
        looked(stall)
        stall.withdraw(payer, 600)
        proxy.dark = True
        with pytest.raises(ChainError):
            stall.settlement.rescue()
        proxy.dark = False
        stall.devnet.mine(50)
        assert stall.settlement.rescue().amount == 800
