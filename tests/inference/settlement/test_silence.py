"""The chain is silent for an hour: calls go on while that is safe, and nothing is lost."""

from __future__ import annotations

import pytest

from inference.errors import UnavailableError
from inference.payments.channel import MIN_WITHDRAW_DELAY_S
from tests.fakes.rpc_proxy import rpc_proxy
from tests.inference.settlement.stall import Stall, account, name

HOUR = 3_600


def test_an_hour_without_the_chain_loses_nothing(stall: Stall) -> None:
    now = [0.0]
    with rpc_proxy(stall.devnet.rpc_url) as proxy:
        stall.restart(url=proxy.url)
        rounds = stall.rounds(lambda: now[0])
        payers = stall.sell(100, 200)
        rounds.go()
        proxy.dark = True
        stall.charge(*((payer, 300) for payer in payers))  # on views that are fresh enough
        while now[0] < HOUR:
            now[0] += rounds.pause_s()
            rounds.go()
        tried = proxy.asked.count("eth_getBlockByNumber")
        assert "tick fails for 3" in rounds.error
        assert "gave no usable answer" in rounds.error
        assert stall.claimed(*payers) == [0, 0]
        assert tried < HOUR / 60 * 4  # in growing intervals, not in a storm
        stall.devnet.pass_time(HOUR)
        proxy.dark = False
        now[0] += rounds.pause_s()
        rounds.go()
        assert rounds.error == ""
        assert stall.claimed(*payers) == [300, 300]
        assert [entry.get("action") for entry in stall.entries()[:2]] == ["claim", "settle"]
        assert stall.incidents() == []
        stall.reconcile(*payers)


def test_calls_end_when_the_view_of_their_channel_is_older_than_is_safe(stall: Stall) -> None:
    [payer] = stall.sell(100)
    ledger = stall.shop.cashier.ledger
    seen = stall.database.read(account(ledger, payer)).chain.read_at
    # What is taken at the last moment can be claimed for this long, whatever was asked for since.
    last = next(
        age
        for age in range(MIN_WITHDRAW_DELAY_S, 0, -1)
        if not stall.database.read(
            lambda tx, age=age: ledger.needs_state(tx, payer.pays(200), now=seen + age)
        )
    )
    assert MIN_WITHDRAW_DELAY_S - last >= 2 * MIN_WITHDRAW_DELAY_S // 3
    with pytest.raises(UnavailableError, match="too old"):
        stall.database.write_now(
            lambda tx: ledger.reserve(tx, payer.pays(200), quote=100, now=seen + last + 1)
        )


def test_a_withdrawal_during_the_silence_is_claimed_before_it_ends_when_the_chain_is_back_in_time(
    stall: Stall,
) -> None:
    now = [0.0]
    with rpc_proxy(stall.devnet.rpc_url) as proxy:
        stall.restart(url=proxy.url)
        rounds = stall.rounds(lambda: now[0])
        [payer] = stall.sell(800)
        rounds.go()
        proxy.dark = True
        stall.withdraw(payer, 900)
        rounds.go()
        assert "rescue fails" in rounds.error
        stall.devnet.pass_time(MIN_WITHDRAW_DELAY_S - 60)
        proxy.dark = False
        rounds.go()
        assert stall.claimed(payer) == [800]
        stall.devnet.pass_time(60)
        stall.finalize(payer)
        stall.settlement.withdrawals.refresh([name(payer)])
        assert stall.incidents() == []


def test_what_a_silence_longer_than_the_delay_cost_is_told(stall: Stall) -> None:
    now = [0.0]
    with rpc_proxy(stall.devnet.rpc_url) as proxy:
        stall.restart(url=proxy.url)
        rounds = stall.rounds(lambda: now[0])
        [payer] = stall.sell(800)
        rounds.go()
        proxy.dark = True
        stall.withdraw(payer, 900)
        rounds.go()
        stall.devnet.pass_time(HOUR)
        stall.finalize(payer)
        proxy.dark = False
        rounds.go()
        [(incident, _, detail)] = stall.incidents()
        assert incident == "withdrawn unclaimed"
        assert detail.startswith("700 of 800 owed")
        now[0] += 60
        rounds.go()
        assert stall.claimed(payer) == [100]
        stall.reconcile(payer)
