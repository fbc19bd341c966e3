"""The ledger: what is refused, what a call leaves behind, and what may be claimed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection

from inference.database import Database
from inference.errors import (
    CorrectivePaymentError,
    NodeError,
    PaymentRefusedError,
    UnavailableError,
)
from inference.payments.account import Account, OnchainChannel
from inference.payments.ledger import ChannelLedger
from inference.payments.reservation import Committed, Reservation
from inference.payments.verification import VerifiedPayment
from tests.inference.payments.payer import NOW, Payer, onchain

PREFIX = "invalid_batch_settlement_evm_"
PAYER = Payer()
ID = f"0x{PAYER.channel_id.hex()}"
T = TypeVar("T")


class Till:
    """A ledger with its database: every method is one transaction, as in a node."""

    def __init__(self, database: Database, **options: int) -> None:
        self.database = database
        self.ledger = ChannelLedger(**options)

    def do(self, work: Callable[[Connection], T]) -> T:
        return self.database.write_now(work)

    def reserve(
        self,
        payment: VerifiedPayment,
        quote: int = 100,
        *,
        least: int | None = None,
        state: OnchainChannel | None = None,
        stream: bool = False,
        now: int = NOW,
    ) -> Reservation:
        def work(tx: Connection) -> Reservation:
            taken = self.ledger.reserve(tx, payment, quote=quote, least=least, state=state, now=now)
            return self.ledger.prepay(tx, taken) if stream else taken

        return self.do(work)

    def commit(self, reservation: Reservation, actual: int) -> Committed:
        return self.do(lambda tx: self.ledger.commit(tx, reservation, actual))

    def release(self, reservation: Reservation) -> None:
        self.do(lambda tx: self.ledger.release(tx, reservation))

    def account(self) -> Account:
        account = self.database.read(lambda tx: self.ledger.account(tx, ID))
        assert account is not None
        return account

    def claimable(self) -> int:
        return sum(claim.total for claim in self.database.read(self.ledger.claims))

    def refused(self, *arguments: Any, **options: Any) -> str:
        with pytest.raises(PaymentRefusedError) as caught:
            self.reserve(*arguments, **options)
        return caught.value.code.removeprefix(PREFIX)


@pytest.fixture
def till(database: Database) -> Till:
    return Till(database)


@pytest.fixture
def open_till(till: Till) -> Till:
    """A channel of 10,000 on which 40 of a quote of 100 were charged."""
    till.commit(till.reserve(PAYER.pays(100), state=onchain(10_000)), 40)
    return till


# What is refused.


def test_a_voucher_above_the_balance_is_refused(till: Till) -> None:
    assert till.refused(PAYER.pays(101), 101, state=onchain(100)) == "cumulative_exceeds_balance"
    till.reserve(PAYER.pays(100), 100, state=onchain(100))


def test_who_missed_its_refund_is_told_in_the_words_from_which_clients_recover(till: Till) -> None:
    state = onchain(100, refund_nonce=1)
    assert till.refused(PAYER.pays(101), 101, state=state) == "cumulative_amount_mismatch"


def test_a_balance_that_a_withdrawal_will_take_counts_for_nothing(till: Till) -> None:
    state = onchain(1_000, withdraw_amount=901, withdraw_requested_at=NOW)
    assert till.refused(PAYER.pays(100), state=state) == "cumulative_exceeds_balance"
    till.reserve(PAYER.pays(99), 99, state=state)


def test_a_voucher_for_a_channel_without_money_is_refused(till: Till) -> None:
    assert till.refused(PAYER.pays(100), state=onchain(0)) == "channel_not_found"


@pytest.mark.parametrize("ceiling", [99, 101, 1])
def test_a_first_voucher_that_is_not_the_quote_is_corrected(till: Till, ceiling: int) -> None:
    code = till.refused(PAYER.pays(ceiling), state=onchain(10_000))
    assert code == "cumulative_amount_mismatch"


@pytest.mark.parametrize("ceiling", [100, 139, 141, 40, 240])
def test_a_voucher_built_upon_another_charge_is_corrected_with_proof(
    open_till: Till, ceiling: int
) -> None:
    with pytest.raises(CorrectivePaymentError) as caught:
        open_till.reserve(PAYER.pays(ceiling))
    assert caught.value.code == PREFIX + "cumulative_amount_mismatch"
    assert caught.value.extra == {
        "channelState": {
            "channelId": ID,
            "balance": "10000",
            "totalClaimed": "0",
            "withdrawRequestedAt": 0,
            "refundNonce": "0",
            "chargedCumulativeAmount": "40",
        },
        "voucherState": {
            "signedMaxClaimable": "100",
            "signature": PAYER.voucher_json(100)["signature"],
        },
    }


def test_a_channel_claimed_before_we_knew_it_starts_where_the_chain_stands(till: Till) -> None:
    state = onchain(10_000, claimed=700)
    with pytest.raises(CorrectivePaymentError) as caught:
        till.reserve(PAYER.pays(100), state=state)
    assert "voucherState" not in caught.value.extra
    assert caught.value.extra["channelState"]["chargedCumulativeAmount"] == "700"  # type: ignore[index]  # extra is an open mapping
    till.commit(till.reserve(PAYER.pays(800), state=state), 100)
    assert (till.account().charged, till.claimable()) == (800, 800)


def test_the_chain_must_have_been_asked_and_lately(till: Till) -> None:
    with pytest.raises(UnavailableError):
        till.reserve(PAYER.pays(100))
    with pytest.raises(UnavailableError):
        till.reserve(PAYER.pays(100), state=onchain(1_000, read_at=NOW - 301))
    till.reserve(PAYER.pays(100), state=onchain(1_000, read_at=NOW - 300))


def test_the_ledger_says_when_the_chain_must_be_asked(open_till: Till) -> None:
    def needs(payment: VerifiedPayment, now: int = NOW) -> bool:
        read = open_till.database.read
        return read(lambda tx: open_till.ledger.needs_state(tx, payment, now=now))

    assert not needs(PAYER.pays(140))
    assert needs(PAYER.pays(140), NOW + 301)
    assert needs(PAYER.pays(10_001))
    assert needs(Payer(salt=b"\1" * 32).pays(100))


def test_a_refund_and_a_deposit_are_not_taken_for_a_voucher(till: Till) -> None:
    assert till.refused(PAYER.refunds(0), state=onchain(9)) == "payload_type"
    with pytest.raises(PaymentRefusedError):
        till.do(
            lambda tx: till.ledger.check_deposit(
                tx, PAYER.pays(100), quote=100, state=onchain(0), now=NOW
            )
        )


def test_a_deposit_that_would_not_carry_its_voucher_is_refused_before_it_moves(
    till: Till,
) -> None:
    def check(payment: VerifiedPayment, balance: int) -> None:
        till.do(
            lambda tx: till.ledger.check_deposit(
                tx, payment, quote=100, state=onchain(balance), now=NOW
            )
        )

    with pytest.raises(PaymentRefusedError, match="balance of 99"):
        check(PAYER.deposits(100, 99), 0)
    with pytest.raises(CorrectivePaymentError):
        check(PAYER.deposits(101, 500), 0)
    check(PAYER.deposits(100, 99), 1)
    assert till.database.read(lambda tx: till.ledger.account(tx, ID)) is None


def test_a_charge_above_the_quote_or_below_nothing_is_refused(till: Till) -> None:
    reservation = till.reserve(PAYER.pays(100), state=onchain(1_000))
    for actual in (101, -1):
        with pytest.raises(NodeError):
            till.commit(reservation, actual)
    assert till.commit(reservation, 100).cumulative == 100


def test_a_reservation_ends_once(till: Till) -> None:
    reservation = till.reserve(PAYER.pays(100), state=onchain(1_000))
    till.commit(reservation, 10)
    for again in (lambda: till.commit(reservation, 10), lambda: till.release(reservation)):
        with pytest.raises(NodeError):
            again()
    assert till.account().charged == 10


def test_nobody_else_makes_a_reservation() -> None:
    with pytest.raises(NodeError):
        Reservation("id", "exact", "exact", PAYER.key.address, 1, "", "", 0, {}, object())


def test_a_call_has_no_charge_to_tell_up_front(till: Till) -> None:
    with pytest.raises(NodeError):
        till.reserve(PAYER.pays(100), state=onchain(1_000)).extra()


# What a call leaves behind.


def test_the_highest_voucher_is_stored_before_any_work(till: Till) -> None:
    till.reserve(PAYER.pays(100), state=onchain(1_000))
    account = till.account()
    assert account.signed_max == 100
    assert f"0x{account.signature.hex()}" == PAYER.voucher_json(100)["signature"]
    assert (account.charged, till.claimable()) == (0, 0)


def test_a_call_is_charged_what_it_cost(open_till: Till) -> None:
    committed = open_till.commit(open_till.reserve(PAYER.pays(140)), 60)
    assert (committed.actual, committed.told, committed.cumulative) == (60, 60, 100)
    assert committed.extra()["chargedAmount"] == "60"
    assert open_till.claimable() == 100


def test_a_failed_call_changes_nothing_but_the_voucher(open_till: Till) -> None:
    before = open_till.account()
    open_till.release(open_till.reserve(PAYER.pays(140)))
    after = open_till.account()
    assert after == replace(before, signed_max=140, signature=after.signature)
    open_till.commit(open_till.reserve(PAYER.pays(140)), 1)


def test_a_stream_is_charged_its_quote_and_credited_the_rest(open_till: Till) -> None:
    head = open_till.reserve(PAYER.pays(140), stream=True)
    assert head.told == 100
    assert head.extra()["channelState"]["chargedCumulativeAmount"] == "140"  # type: ignore[index]  # extra is an open mapping
    assert open_till.claimable() == 40
    ended = open_till.commit(head, 30)
    assert (ended.actual, ended.told, ended.cumulative, ended.credit) == (30, 100, 140, 70)
    assert open_till.claimable() == 70

    plain = open_till.commit(open_till.reserve(PAYER.pays(240)), 50)
    assert (plain.told, plain.cumulative, plain.credit) == (0, 140, 20)
    assert open_till.claimable() == 120
    head = open_till.reserve(PAYER.pays(240), stream=True)
    assert (head.told, open_till.claimable()) == (80, 120)
    assert open_till.commit(head, 100).credit == 0
    assert open_till.claimable() == 220


def test_a_stream_that_failed_after_its_head_is_credited_in_full(open_till: Till) -> None:
    ended = open_till.commit(open_till.reserve(PAYER.pays(140), stream=True), 0)
    assert (ended.cumulative, ended.credit, open_till.claimable()) == (140, 100, 40)


def test_a_stream_that_failed_before_its_head_leaves_no_trace(open_till: Till) -> None:
    before = open_till.account()
    open_till.release(open_till.reserve(PAYER.pays(140), stream=True))
    after = open_till.account()
    assert (after.charged, after.credit) == (before.charged, before.credit)


def test_a_stream_others_built_upon_becomes_credit_when_it_fails(open_till: Till) -> None:
    stream = open_till.reserve(PAYER.pays(140), stream=True)
    open_till.commit(open_till.reserve(PAYER.pays(240)), 5)
    open_till.release(stream)
    account = open_till.account()
    assert (account.charged, account.credit, open_till.claimable()) == (145, 100, 45)


# Several calls under one ceiling.


def test_calls_share_a_ceiling_while_what_they_cost_fits(open_till: Till) -> None:
    payment = PAYER.pays(140)
    calls = [open_till.reserve(payment, least=10) for _ in range(4)]
    told = [open_till.commit(call, 25).cumulative for call in reversed(calls)]
    assert told == [65, 90, 115, 140]


def test_the_call_that_no_longer_fits_is_refused_and_not_charged(open_till: Till) -> None:
    first, second = (open_till.reserve(PAYER.pays(140), least=10) for _ in range(2))
    open_till.commit(first, 60)
    with pytest.raises(PaymentRefusedError) as caught:
        open_till.commit(second, 60)
    assert caught.value.code == PREFIX + "channel_busy"
    open_till.release(second)
    assert open_till.account().charged == 100


def test_a_call_whose_least_cannot_fit_is_refused_before_any_work(open_till: Till) -> None:
    open_till.reserve(PAYER.pays(140), least=60)
    assert open_till.refused(PAYER.pays(140), least=41) == "channel_busy"
    assert open_till.refused(PAYER.pays(140)) == "channel_busy"
    open_till.reserve(PAYER.pays(140), least=40)


def test_a_payer_may_sign_for_all_it_has_in_flight(open_till: Till) -> None:
    first = open_till.reserve(PAYER.pays(140))
    second = open_till.reserve(PAYER.pays(240))
    assert open_till.refused(PAYER.pays(341)) == "cumulative_amount_mismatch"
    assert open_till.commit(second, 100).cumulative == 140
    assert open_till.commit(first, 100).cumulative == 240


def test_an_old_voucher_is_not_admitted_beside_a_call_in_flight(open_till: Till) -> None:
    open_till.reserve(PAYER.pays(140), least=1)
    assert open_till.refused(PAYER.pays(100), least=1) == "cumulative_amount_mismatch"


def test_a_sibling_of_a_stream_is_told_to_catch_up(open_till: Till) -> None:
    stream = open_till.reserve(PAYER.pays(140), stream=True)
    assert open_till.refused(PAYER.pays(140), least=1) == "cumulative_amount_mismatch"
    open_till.commit(open_till.reserve(PAYER.pays(240), least=1), 100)
    open_till.commit(stream, 100)
    assert open_till.claimable() == 240


def test_a_stream_beside_a_call_needs_room_for_its_quote(open_till: Till) -> None:
    call = open_till.reserve(PAYER.pays(140), least=10)
    assert open_till.refused(PAYER.pays(140), least=10, stream=True) == "channel_busy"
    open_till.release(call)
    open_till.reserve(PAYER.pays(140), least=10, stream=True)


def test_without_sharing_calls_of_a_channel_come_one_after_another(database: Database) -> None:
    till = Till(database, in_flight=1)
    first = till.reserve(PAYER.pays(100), least=1, state=onchain(10_000))
    assert till.refused(PAYER.pays(100), least=1) == "channel_busy"
    till.commit(first, 10)
    till.reserve(PAYER.pays(110), least=1)


def test_no_more_calls_than_allowed_are_in_flight(database: Database) -> None:
    till = Till(database, in_flight=3)
    for _ in range(3):
        till.reserve(PAYER.pays(100), least=0, state=onchain(10_000))
    assert till.refused(PAYER.pays(100), least=0) == "channel_busy"


# Refunds, claims, the chain, restarts.


def refund(till: Till, charged: int, amount: int | None = None, **state: int) -> Any:
    return till.do(
        lambda tx: till.ledger.reserve_refund(
            tx, PAYER.refunds(charged, amount), state=onchain(10_000, **state), now=NOW
        )
    )


def test_a_refund_of_an_unknown_channel_is_refused(till: Till) -> None:
    with pytest.raises(PaymentRefusedError, match="knows no channel"):
        refund(till, 0)


def test_a_refund_built_upon_another_charge_is_corrected(open_till: Till) -> None:
    with pytest.raises(CorrectivePaymentError):
        refund(open_till, 39)


def test_a_refund_beyond_what_is_left_is_refused(open_till: Till) -> None:
    with pytest.raises(PaymentRefusedError) as caught:
        refund(open_till, 40, 9_961)
    assert caught.value.code == PREFIX + "refund_no_balance"
    assert refund(open_till, 40, 9_960).amount == 9_960


def test_a_refund_waits_for_calls_and_bars_new_ones(open_till: Till) -> None:
    call = open_till.reserve(PAYER.pays(140))
    with pytest.raises(PaymentRefusedError, match="in flight"):
        refund(open_till, 40)
    open_till.release(call)
    plan = refund(open_till, 40)
    assert open_till.refused(PAYER.pays(140)) == "channel_busy"
    open_till.release(plan.reservation)
    open_till.reserve(PAYER.pays(140))


def test_a_refund_whose_end_was_not_seen_is_found_and_ended_by_the_chains_view(
    open_till: Till,
) -> None:
    plan = refund(open_till, 40)
    stale = open_till.ledger.stale_refunds
    assert open_till.database.read(lambda tx: stale(tx, before=NOW)) == []
    [found] = open_till.database.read(lambda tx: stale(tx, before=NOW + 1))
    assert found == plan.reservation
    not_happened = onchain(10_000, block=2)
    open_till.do(lambda tx: open_till.ledger.finish_refund(tx, found, not_happened))
    assert open_till.commit(open_till.reserve(PAYER.pays(140)), 60).cumulative == 100


def test_a_whole_refund_gives_unused_credit_back_and_starts_afresh(open_till: Till) -> None:
    open_till.commit(open_till.reserve(PAYER.pays(140), stream=True), 30)
    plan = refund(open_till, 140)
    assert (plan.amount, plan.nonce) == (9_930, 0)
    assert (plan.claim.total, plan.claim.max_claimable) == (70, 140)
    after = onchain(70, claimed=70, block=2, refund_nonce=1)
    done = open_till.do(lambda tx: open_till.ledger.finish_refund(tx, plan.reservation, after))
    assert (done.cumulative, done.credit) == (70, 0)
    assert done.state["balance"] == "70"
    topped_up = onchain(570, claimed=70, block=3, refund_nonce=1)
    open_till.commit(open_till.reserve(PAYER.pays(170), state=topped_up), 100)
    assert open_till.claimable() == 170


def test_a_partial_refund_keeps_what_the_payer_was_told(open_till: Till) -> None:
    open_till.commit(open_till.reserve(PAYER.pays(140), stream=True), 30)
    plan = refund(open_till, 140, 1_000)
    after = onchain(9_000, claimed=70, block=2, refund_nonce=1)
    done = open_till.do(lambda tx: open_till.ledger.finish_refund(tx, plan.reservation, after))
    assert (done.cumulative, done.credit) == (140, 70)


def test_claims_of_withdrawing_channels_come_first(open_till: Till) -> None:
    other = Payer(salt=b"\1" * 32)
    state = onchain(1_000, withdraw_amount=500, withdraw_requested_at=NOW)
    open_till.commit(open_till.reserve(other.pays(100), state=state), 5)
    claims = open_till.database.read(open_till.ledger.claims)
    assert [claim.config.salt[0] for claim in claims] == [1, 0]
    assert claims[1].config == PAYER.config
    claimed = onchain(10_000, claimed=40, block=2)
    open_till.do(lambda tx: open_till.ledger.mirror(tx, ID, claimed))
    assert len(open_till.database.read(open_till.ledger.claims)) == 1


def test_a_claim_never_exceeds_what_the_channel_still_holds(open_till: Till) -> None:
    open_till.do(lambda tx: open_till.ledger.mirror(tx, ID, onchain(30, block=2)))
    assert open_till.claimable() == 30


def test_an_older_view_of_the_chain_changes_nothing(open_till: Till) -> None:
    mirror = open_till.ledger.mirror
    open_till.do(lambda tx: mirror(tx, ID, onchain(500, block=9)))
    open_till.do(lambda tx: mirror(tx, ID, onchain(10_000, block=8)))
    assert open_till.account().chain.balance == 500
    assert open_till.do(lambda tx: mirror(tx, "0x" + "00" * 32, onchain(1))) is None


def test_an_old_copy_of_the_database_learns_what_was_claimed_since(open_till: Till) -> None:
    state = onchain(10_000, claimed=900, block=9)
    account = open_till.do(lambda tx: open_till.ledger.mirror(tx, ID, state))
    assert account is not None
    assert (account.charged, account.owed, open_till.claimable()) == (900, 900, 0)
    with pytest.raises(CorrectivePaymentError) as caught:
        open_till.reserve(PAYER.pays(140))
    assert "voucherState" not in caught.value.extra  # the old voucher proves nothing of it
    open_till.commit(open_till.reserve(PAYER.pays(1_000)), 100)
    assert open_till.claimable() == 1_000


def test_a_restart_ends_what_was_in_flight_and_charges_nothing(open_till: Till) -> None:
    other = Payer(salt=b"\1" * 32)
    open_till.reserve(PAYER.pays(140), stream=True)
    open_till.reserve(PAYER.pays(240), least=1)
    open_till.commit(open_till.reserve(other.pays(100), state=onchain(900)), 5)
    refunding = open_till.do(
        lambda tx: open_till.ledger.reserve_refund(
            tx, other.refunds(5), state=onchain(900), now=NOW
        )
    )
    instance = open_till.database.instance
    found = open_till.do(lambda tx: open_till.ledger.recover(tx, instance))
    assert sorted(call.purpose for call in found.calls) == ["call", "stream"]
    assert [r.id for r in found.refunds] == [refunding.reservation.id]
    account = open_till.account()
    assert (account.charged, account.credit, account.signed_max) == (140, 100, 240)
    assert open_till.claimable() == 45
    open_till.release(found.refunds[0])
    open_till.commit(open_till.reserve(PAYER.pays(240)), 1)


def test_what_a_transaction_undoes_was_never_reserved(till: Till) -> None:
    def work(tx: Connection) -> None:
        till.ledger.reserve(tx, PAYER.pays(100), quote=100, state=onchain(1_000), now=NOW)
        raise NodeError("the receipt could not be written")

    with pytest.raises(NodeError, match="receipt"):
        till.do(work)
    assert till.database.read(lambda tx: till.ledger.account(tx, ID)) is None
