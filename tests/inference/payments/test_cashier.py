"""The moments of money in a call, on a real chain: refusals, races and outcomes nobody saw."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.database import Database
from inference.errors import (
    AlreadyAnsweredError,
    CorrectivePaymentError,
    InProgressError,
    NodeError,
    PaymentRefusedError,
)
from inference.payments.channel import ChannelConfig
from inference.payments.eip3009 import Authorization
from inference.payments.exact import verify_authorization
from inference.payments.ledger import ChannelLedger
from inference.payments.mover import SettlementPendingError
from inference.payments.reservation import Reservation
from inference.payments.secured import DepositedError, Moved
from inference.payments.token_contract import TokenContract
from inference.payments.x402 import decode_header
from inference.refund import refund
from registry.chain.block import TxReceipt
from registry.chain.deploy import Deployment
from registry.chain.devnet import Devnet
from registry.signing.signer import Signer
from tests.inference.payments.payer import RECEIVER, Payer
from tests.inference.payments.shop import NOWHERE, URL, Shop, deposit, exactly, pay

MISMATCH = "invalid_batch_settlement_evm_cumulative_amount_mismatch"
USED = "invalid_exact_evm_nonce_already_used"
STRANGER = Signer.anvil(2, chain_id=31337)


@pytest.fixture
def shop(devnet: Devnet, deployment: Deployment, database: Database) -> Shop:
    return Shop(devnet.chain, deployment, database)


def authorize(payer: Payer, value: int = 700, **more: Any) -> Authorization:
    return payer.authorize(value=value, valid_before=int(time.time()) + 300, **more)


class Blind(TokenContract):
    """Cannot be asked who used an authorisation."""

    def paid_by(self, authorization: Authorization, *, from_block: int) -> TxReceipt | None:
        return TokenContract(NOWHERE, self.address).paid_by(authorization, from_block=from_block)


def test_of_two_streams_under_one_charge_the_second_is_corrected_before_any_work(
    shop: Shop,
) -> None:
    payer = shop.payer()

    async def go() -> None:
        first = await shop.reserve(deposit(payer, 100, 1_000), 100, stream=True)
        with pytest.raises(CorrectivePaymentError) as caught:
            await shop.reserve(payer.payload("voucher", 100), 100, stream=True)
        assert caught.value.code == MISMATCH
        assert caught.value.extra["channelState"]["chargedCumulativeAmount"] == "100"
        assert caught.value.extra["voucherState"]["signedMaxClaimable"] == "100"
        second = await shop.reserve(payer.payload("voucher", 200), 100, stream=True)
        for secured, charged in ((first, "100"), (second, "200")):
            head = decode_header(shop.cashier.stream_head(secured))
            assert head["extra"]["chargedAmount"] == "100"
            assert head["extra"]["channelState"]["chargedCumulativeAmount"] == charged
        assert (await shop.book(first, 40)).charged == 40
        assert (await shop.book(second, 60)).cumulative == 100

    asyncio.run(go())


def test_a_refused_stream_leaves_nothing_behind(shop: Shop) -> None:
    payer = shop.payer()

    async def go() -> None:
        first = await shop.reserve(deposit(payer, 100, 1_000), 100, least=60)
        with pytest.raises(PaymentRefusedError):
            await shop.reserve(payer.payload("voucher", 100), 100, least=10, stream=True)
        assert shop.answer(await shop.book(first, 80))["extra"]["chargedAmount"] == "80"
        account = shop.database.read(
            lambda tx: shop.cashier.ledger.account(tx, first.reservation.channel_id)
        )
        assert account is not None
        assert (account.charged, account.credit) == (80, 0)

    asyncio.run(go())


def test_a_call_has_no_stream_head(shop: Shop) -> None:
    payer = shop.payer()

    async def go() -> None:
        secured = await shop.reserve(deposit(payer, 100, 1_000), 100)
        with pytest.raises(NodeError):
            shop.cashier.stream_head(secured)

    asyncio.run(go())


def test_a_stream_that_fails_before_its_head_gives_the_whole_quote_back(shop: Shop) -> None:
    payer = shop.payer()

    async def go() -> None:
        secured = await shop.reserve(deposit(payer, 100, 1_000), 100, stream=True)
        with pytest.raises(NodeError):
            await shop.book(secured, 1, told=False)
        answer = shop.answer(await shop.book(secured, 0, told=False))
        assert answer["extra"]["chargedAmount"] == "0"
        assert answer["extra"]["channelState"]["chargedCumulativeAmount"] == "0"
        assert answer["transaction"].startswith("0x")
        again = await shop.reserve(payer.payload("voucher", 100), 100, stream=True)
        answer = shop.answer(await shop.book(again, 0))  # its head was sent
        assert answer["extra"]["channelState"]["chargedCumulativeAmount"] == "100"

    asyncio.run(go())


def test_an_authorization_used_for_another_transfer_is_refused(shop: Shop) -> None:
    payer = shop.payer()

    async def go() -> None:
        payment = authorize(payer)
        secured = await shop.reserve(exactly(payment), 700)
        shop.token.transfer(STRANGER, authorize(payer, to=payer.key.address, nonce=payment.nonce))
        with pytest.raises(PaymentRefusedError) as caught:
            await shop.cashier.collect(secured)
        assert caught.value.code == USED
        answer = shop.answer(await shop.book(secured, 0))
        assert (answer["success"], answer["errorReason"]) == (False, "not_served")

    asyncio.run(go())


def test_a_transfer_that_somebody_else_sent_first_is_the_payment(shop: Shop) -> None:
    payer = shop.payer()

    async def go() -> None:
        payment = authorize(payer)
        secured = await shop.reserve(exactly(payment), 700)
        before = shop.token.balance_of(RECEIVER)
        receipt = shop.token.transfer(STRANGER, payment)
        collected = await shop.cashier.collect(secured)
        assert shop.token.balance_of(RECEIVER) == before + 700
        answer = shop.answer(await shop.book(collected, 700))
        assert (answer["success"], answer["transaction"]) == (True, receipt.text)
        with pytest.raises(PaymentRefusedError) as caught:
            await shop.reserve(exactly(payment), 700)
        assert caught.value.code == USED

    asyncio.run(go())


def test_an_outcome_that_cannot_be_read_is_pending_and_settled_later(shop: Shop) -> None:
    payer = shop.payer()
    blind = Blind(shop.chain, shop.token.address)

    async def go() -> None:
        payment = authorize(payer)
        secured = await shop.reserve(exactly(payment), 700)
        shop.token.transfer(STRANGER, payment)
        cashier = replace(shop.cashier, mover=replace(shop.mover, token=blind))
        with pytest.raises(SettlementPendingError) as caught:
            await cashier.collect(secured)
        assert (caught.value.code, caught.value.status) == ("settlement_pending", 503)
        answer = shop.answer(await shop.book(secured, 0))
        assert (answer["success"], answer["errorReason"]) == (False, "settlement_pending")
        assert "charged" not in answer["errorMessage"]

    asyncio.run(go())
    shop.settlement.resolve()
    assert shop.database.read(shop.cashier.authorizations.unsettled) == []
    assert shop.entries()[-1]["incident"] == "paid without an answer"


def test_a_payment_that_was_collected_but_not_booked_is_served_to_whoever_made_it(
    shop: Shop,
) -> None:
    payer = shop.payer()

    async def go() -> None:
        payment = authorize(payer)
        secured = await shop.reserve(exactly(payment), 700, binding=b"one request")
        collected = await shop.cashier.collect(secured)

        def crash(tx: Any) -> None:
            shop.cashier.book(tx, collected, 700)
            raise NodeError("the node stopped before COMMIT")

        with pytest.raises(NodeError, match="stopped"):
            await shop.database.write(crash)
        answer = shop.answer(await shop.book(secured, 0))
        assert answer["errorReason"] == "settlement_pending"
        with pytest.raises(PaymentRefusedError) as caught:  # the chain was asked: it had moved
            await shop.reserve(exactly(payment), 700, binding=b"another request")
        assert caught.value.code == USED
        before = shop.token.balance_of(RECEIVER)
        again = await shop.reserve(exactly(payment), 700, binding=b"one request")
        failed = shop.answer(await shop.book(again, 0))
        assert failed["errorReason"] == "settlement_pending"
        assert failed["transaction"] == collected.moved.text  # type: ignore[union-attr]  # it moved
        again = await shop.reserve(exactly(payment), 700, binding=b"one request")
        served = shop.answer(await shop.book(await shop.cashier.collect(again), 700))
        assert served["success"]
        assert served["transaction"] == collected.moved.text  # type: ignore[union-attr]  # it moved
        assert shop.token.balance_of(RECEIVER) == before
        with pytest.raises(AlreadyAnsweredError):
            await shop.reserve(exactly(payment), 700, binding=b"one request")

    asyncio.run(go())


def test_while_the_chain_does_not_answer_an_unknown_outcome_stays_pending(shop: Shop) -> None:
    payer = shop.payer()

    async def go() -> None:
        payment = authorize(payer)
        secured = await shop.reserve(exactly(payment), 700)
        book = shop.cashier.authorizations
        for how in (book.settling, book.unknown):
            await shop.database.write(lambda tx, how=how: how(tx, secured.reservation, None))
        with pytest.raises(SettlementPendingError):  # it did not move and still may
            await shop.reserve(exactly(payment), 700)
        mover = replace(shop.mover, token=TokenContract(NOWHERE, shop.token.address))
        sold, shop.cashier = shop.cashier, replace(shop.cashier, mover=mover)
        with pytest.raises(SettlementPendingError):
            await shop.reserve(exactly(payment), 700)
        shop.cashier = sold
        receipt = shop.token.transfer(STRANGER, payment)
        with pytest.raises(PaymentRefusedError) as caught:
            await shop.reserve(exactly(payment), 700)
        assert caught.value.code == USED
        found = shop.database.read(lambda tx: book.unsettled(tx))
        assert (found, len(receipt.hash)) == ([], 32)

    asyncio.run(go())


def test_a_payer_that_comes_back_late_with_what_it_paid_in_time_is_not_asked_to_pay_again(
    shop: Shop,
) -> None:
    payer = shop.payer()

    ended = int(time.time()) - 60
    book, token = shop.cashier.authorizations, shop.cashier.terms.token

    async def go() -> None:
        payment = payer.authorize(value=700, valid_before=ended)
        with pytest.raises(PaymentRefusedError) as caught:
            await shop.reserve(exactly(payment), 700, binding=b"one request")
        assert caught.value.code == "invalid_exact_evm_payload_authorization_valid_before"
        in_time = verify_authorization(
            payment, token=token, pay_to=RECEIVER, amount=700, now=ended - 100
        )

        def moved_for_nothing(tx: Any) -> None:
            own = book.reserve(tx, in_time, now=ended - 100, binding=b"one request")
            book.settling(tx, own)
            book.unknown(tx, own, None)
            book.paid(tx, own, b"\1" * 32)

        await shop.database.write(moved_for_nothing)
        again = await shop.reserve(exactly(payment), 700, binding=b"one request")
        assert again.moved == Moved(b"\1" * 32, 700)

    asyncio.run(go())


class Full(ChannelLedger):
    """Loses the place that its check before a deposit still found."""

    def reserve(self, *arguments: Any, **more: Any) -> Reservation:
        return ChannelLedger(in_flight=0).reserve(*arguments, **more)


@pytest.mark.parametrize(
    ("reads", "ledger", "status", "why"),
    [(1, ChannelLedger(), 503, "does not answer"), (2, Full(), 500, "in flight")],
)
def test_a_payer_learns_of_its_deposit_when_the_call_is_refused_after_it(
    shop: Shop, reads: int, ledger: ChannelLedger, status: int, why: str
) -> None:
    payer = shop.payer()
    sold, shop.cashier = shop.cashier, replace(shop.cashier, ledger=ledger)

    async def go() -> None:
        shop.channels.reads = reads
        with pytest.raises(DepositedError, match=why) as caught:
            await shop.reserve(deposit(payer, 100, 1_000), 100)
        error = caught.value
        assert (error.status, error.payer) == (status, payer.key.address)
        answer = decode_header(error.response(sold.network))
        assert (answer["success"], answer["amount"]) == (True, "1000")
        assert answer["transaction"] == error.moved.text
        assert answer["extra"] == {"chargedAmount": "0"}
        shop.cashier, shop.channels.reads = sold, 9
        served = await shop.reserve(payer.payload("voucher", 100), 100)
        assert (await shop.book(served, 30)).charged == 30

    asyncio.run(go())


def test_a_refund_that_is_under_way_is_no_reason_to_pay(shop: Shop) -> None:
    payer = shop.payer()

    async def go() -> None:
        served = await shop.reserve(deposit(payer, 100, 1_000), 100)
        await shop.book(served, 30)
        offers = shop.cashier.offers(URL, 0)
        payment = pay(offers, "batch-settlement", payer.payload("refund", 30))
        verified = payer.verified(payer.payload("refund", 30))
        state = await shop.mover.channel_state(verified.channel_id, now=int(time.time()))
        ledger = shop.cashier.ledger
        plan = await shop.database.write(
            lambda tx: ledger.reserve_refund(tx, verified, state=state, now=int(time.time()))
        )
        with pytest.raises(InProgressError) as caught:
            await refund(payment, offers, shop.cashier, shop.settlement)
        assert (caught.value.status, caught.value.afresh) == (503, False)
        await shop.database.write(lambda tx: ledger.release(tx, plan.reservation))
        answer = decode_header(await refund(payment, offers, shop.cashier, shop.settlement))
        assert (answer["success"], answer["amount"]) == (True, "970")

    asyncio.run(go())


@pytest.mark.parametrize("readable", [False, True])
def test_a_refund_is_in_the_log_whether_or_not_its_channel_can_be_read_afterwards(
    shop: Shop, successor: Database, readable: bool
) -> None:
    payer = shop.payer()

    async def go() -> str:
        served = await shop.reserve(deposit(payer, 100, 1_000), 100)
        await shop.book(served, 30)
        offers = shop.cashier.offers(URL, 0)
        payment = pay(offers, "batch-settlement", payer.payload("refund", 30))
        shop.channels.reads = 2 if readable else 1
        return await refund(payment, offers, shop.cashier, shop.settlement)

    answer = decode_header(asyncio.run(go()))
    assert (answer["success"], answer["amount"]) == (True, "970")
    assert ("channelState" in answer.get("extra", {})) is readable
    claim, returned = shop.entries()
    assert (claim["action"], returned["action"]) == ("claim", "refund")
    assert {claim["transaction"], returned["transaction"]} == {answer["transaction"]}
    later = int(time.time()) + 1

    def open_refunds() -> list[Any]:
        return shop.database.read(lambda tx: shop.cashier.ledger.stale_refunds(tx, before=later))

    assert len(open_refunds()) == (0 if readable else 1)
    replace(shop.settlement, database=successor).recover()
    assert open_refunds() == []
    channel_id = f"0x{payer.channel_id.hex()}"
    account = shop.database.read(lambda tx: shop.cashier.ledger.account(tx, channel_id))
    assert account is not None
    assert (account.chain.balance, account.charged) == (30, 30)
    assert shop.token.balance_of(payer.key.address) == 10**6 - 30


class NotingDatabase(Database):
    """Notes which writes were to be on disk before they are told."""

    noted: list[bool]

    def write(self, function: Any, *, durable: bool = True, brief: bool = False) -> Any:
        self.noted.append(durable)
        return super().write(function, durable=durable, brief=brief)


def test_only_what_nothing_durable_follows_waits_for_the_disk(
    devnet: Devnet, deployment: Deployment, tmp_path: Path
) -> None:
    owner = {"chain_id": 31337, "channels": deployment.payment_channels, "node": RECEIVER}
    with NotingDatabase(f"sqlite:///{tmp_path}/node.db", **owner) as database:  # type: ignore[arg-type]  # a mix of types
        database.noted = []
        shop = Shop(devnet.chain, deployment, database)
        payer = shop.payer()

        async def go() -> None:
            await shop.book(await shop.reserve(deposit(payer, 100, 1_000), 100), 100)
            assert all(database.noted)
            database.noted.clear()
            called = await shop.reserve(payer.payload("voucher", 200), 100)
            assert database.noted == [False]
            await shop.book(called, 100)
            assert database.noted == [False, True]
            await shop.reserve(payer.payload("voucher", 300), 100, stream=True)
            assert database.noted == [False, True, True]

        asyncio.run(go())


class Impostor(Payer):
    """Has funded, on chain and by its own means, a channel that names somebody else as payer."""

    @property
    def config(self) -> ChannelConfig:
        return replace(super().config, payer=STRANGER.address)


def test_a_channel_in_the_name_of_somebody_who_signed_nothing_is_refused(shop: Shop) -> None:
    honest = shop.payer()
    impostor = Impostor(terms=honest.terms, key=honest.key)

    async def go() -> None:
        with pytest.raises(PaymentRefusedError, match="signed nothing here") as caught:
            await shop.reserve(impostor.payload("voucher", 100), 100)
        assert caught.value.code == "invalid_batch_settlement_evm_voucher_signature"

    asyncio.run(go())


def test_a_payment_whose_nonce_was_spent_on_another_transfer_has_not_paid(shop: Shop) -> None:
    payer = shop.payer()

    async def go() -> None:
        payment = authorize(payer)
        secured = await shop.reserve(exactly(payment), 700)
        book = shop.cashier.authorizations
        for how in (book.settling, book.unknown):
            await shop.database.write(lambda tx, how=how: how(tx, secured.reservation, None))
        shop.token.transfer(STRANGER, authorize(payer, to=STRANGER.address, nonce=payment.nonce))
        with pytest.raises(PaymentRefusedError) as caught:
            await shop.reserve(exactly(payment), 700)
        assert caught.value.code == USED

    asyncio.run(go())
    assert shop.database.read(shop.cashier.authorizations.unsettled) == []
    assert not [e for e in shop.entries() if e.get("incident") == "paid without an answer"]
