"""An authorisation is used once, however many copies arrive and whenever the node stops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from inference.database import Database
from inference.errors import (
    AlreadyAnsweredError,
    InProgressError,
    NodeError,
    PaymentRefusedError,
)
from inference.payments.authorizations import AuthorizationBook
from inference.payments.exact import VerifiedAuthorization, verify_authorization
from inference.payments.reservation import Reservation
from registry.signing.signer import Signer
from tests.inference.payments.payer import NOW, RECEIVER, TERMS, TOKEN, Payer, make_terms

BOOK = AuthorizationBook()
OWNER = {"chain_id": 31337, "channels": "0xC", "node": "0xN"}
USED = "invalid_exact_evm_nonce_already_used"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url, **OWNER) as database:  # type: ignore[arg-type]  # a mix of types
        yield database


def verified(nonce: bytes = b"\7" * 32) -> VerifiedAuthorization:
    payment = Payer().authorize(value=100, nonce=nonce)
    return verify_authorization(payment, token=TOKEN, pay_to=RECEIVER, amount=100, now=NOW)


def reserve(
    database: Database, payment: VerifiedAuthorization, binding: bytes = b""
) -> Reservation:
    return database.write_now(lambda tx: BOOK.reserve(tx, payment, now=NOW, binding=binding))


def refusal(database: Database, payment: VerifiedAuthorization) -> str:
    with pytest.raises(PaymentRefusedError) as caught:
        reserve(database, payment)
    return caught.value.code


def move(database: Database, how: str, *arguments: object) -> None:
    database.write_now(lambda tx: getattr(BOOK, how)(tx, *arguments))


def test_of_many_copies_that_arrive_at_once_one_is_reserved(database: Database) -> None:
    async def race() -> list[object]:
        tries = (
            database.write(lambda tx: BOOK.reserve(tx, verified(), now=NOW)) for _ in range(20)
        )
        return await asyncio.gather(*tries, return_exceptions=True)

    results = asyncio.run(race())
    assert sum(isinstance(result, Reservation) for result in results) == 1
    refused = [result for result in results if isinstance(result, PaymentRefusedError)]
    assert len(refused) == 19
    assert {error.code for error in refused} == {USED}


def test_a_settled_authorization_is_refused_for_ever(database: Database) -> None:
    reservation = reserve(database, verified())
    move(database, "settling", reservation)
    move(database, "settled", reservation, b"\1" * 32)
    assert refusal(database, verified()) == USED


def test_an_unknown_outcome_is_never_a_fresh_payment(database: Database) -> None:
    reservation = reserve(database, verified())
    move(database, "settling", reservation)
    assert refusal(database, verified()) == "settlement_pending"
    assert database.read(BOOK.unsettled) == []  # its call is still at it
    move(database, "unknown", reservation, b"\1" * 32)
    assert refusal(database, verified()) == "settlement_pending"
    [found] = database.read(BOOK.unsettled)
    assert found.reservation == reservation
    assert (found.asset, found.tx_hash, found.valid_before) == (
        TOKEN.address,
        b"\1" * 32,
        NOW + 300,
    )
    move(database, "settled", reservation, None)
    assert refusal(database, verified()) == USED


def test_a_copy_of_the_same_request_is_told_how_far_the_first_one_is(database: Database) -> None:
    first = reserve(database, verified(), b"one request")
    with pytest.raises(InProgressError):
        reserve(database, verified(), b"one request")
    assert refusal(database, verified()) == USED
    move(database, "settling", first)
    move(database, "settled", first, b"\1" * 32, "rcpt_of_the_first")
    with pytest.raises(AlreadyAnsweredError) as caught:
        reserve(database, verified(), b"one request")
    told = caught.value
    assert (told.receipt_id, told.transaction, told.amount) == (
        "rcpt_of_the_first",
        b"\1" * 32,
        100,
    )
    with pytest.raises(PaymentRefusedError) as refused:
        reserve(database, verified(), b"another request")
    assert refused.value.code == USED


def test_what_moved_for_nothing_is_served_to_the_request_it_paid_and_to_no_other(
    database: Database,
) -> None:
    first = reserve(database, verified(), b"one request")
    move(database, "settling", first)
    move(database, "unknown", first, None)
    [found] = database.read(BOOK.unsettled)
    move(database, "conclude", found, b"\1" * 32)
    for other in (b"", b"another request"):
        with pytest.raises(PaymentRefusedError):
            reserve(database, verified(), other)
    again = reserve(database, verified(), b"one request")
    assert again.paid_in == b"\1" * 32
    for how in ("settling", "release"):  # it moved: neither sent again nor given back
        with pytest.raises(NodeError, match="serving"):
            move(database, how, again)
    with pytest.raises(InProgressError):
        reserve(database, verified(), b"one request")
    assert database.write_now(lambda tx: BOOK.abandon(tx, again))
    third = reserve(database, verified(), b"one request")
    move(database, "recover", database.instance)  # the node stopped meanwhile
    fourth = reserve(database, verified(), b"one request")
    assert third.paid_in == fourth.paid_in == b"\1" * 32
    move(database, "settled", fourth, b"\1" * 32, "rcpt_of_the_last")
    with pytest.raises(AlreadyAnsweredError):
        reserve(database, verified(), b"one request")


def test_what_never_moved_can_be_presented_again(database: Database) -> None:
    first = reserve(database, verified(), b"one request")
    move(database, "settling", first)
    move(database, "unknown", first, None)
    [found] = database.read(BOOK.unsettled)
    move(database, "conclude", found, b"")
    assert reserve(database, verified(), b"one request").paid_in == b""


def test_a_released_authorization_can_be_presented_again(database: Database) -> None:
    first = reserve(database, verified())
    move(database, "release", first)
    second = reserve(database, verified())
    assert second.id != first.id
    with pytest.raises(NodeError):
        move(database, "settling", first)
    move(database, "settling", second)


def test_a_state_is_never_left_backwards(database: Database) -> None:
    reservation = reserve(database, verified())
    for how, *arguments in (("settled", b"\1" * 32), ("unknown", None)):
        with pytest.raises(NodeError):
            move(database, how, reservation, *arguments)
    move(database, "settling", reservation)
    move(database, "settled", reservation, b"\1" * 32)
    for how, *arguments in (("release",), ("settling",), ("unknown", None)):
        with pytest.raises(NodeError, match="settled"):
            move(database, how, reservation, *arguments)


def test_of_copies_at_two_nodes_one_is_reserved(database: Database, database_url: str) -> None:
    async def race(other: Database) -> list[object]:
        tries = (
            node.write(lambda tx, i=i: BOOK.reserve(tx, verified(bytes([i]) * 32), now=NOW))
            for i in range(20)
            for node in (database, other)
        )
        return await asyncio.gather(*tries, return_exceptions=True)

    with Database(database_url, **OWNER) as other:  # type: ignore[arg-type]  # a mix of types
        results = asyncio.run(race(other))
    refused = [result for result in results if isinstance(result, PaymentRefusedError)]
    assert len([result for result in results if isinstance(result, Reservation)]) == 20
    assert [error.code for error in refused] == [USED] * 20


def test_a_restart_releases_what_was_not_sent_and_keeps_what_was(database: Database) -> None:
    reserve(database, verified(b"\1" * 32))
    sent = reserve(database, verified(b"\2" * 32))
    move(database, "settling", sent)
    move(database, "recover", "another instance")
    assert database.read(BOOK.unsettled) == []
    move(database, "recover", database.instance)
    [found] = database.read(BOOK.unsettled)
    assert found.reservation == sent
    reserve(database, verified(b"\1" * 32))
    assert refusal(database, verified(b"\2" * 32)) == "settlement_pending"


def test_a_deposit_under_way_bars_its_copies_and_a_settled_one_needs_no_other(
    database: Database,
) -> None:
    deposit = Payer().deposits(100, 500)

    def take() -> Reservation | None:
        return database.write_now(lambda tx: BOOK.reserve_deposit(tx, deposit, TERMS, now=NOW))

    reservation = take()
    assert reservation is not None
    assert (reservation.amount, reservation.channel_id) == (500, deposit.channel_id)
    with pytest.raises(InProgressError, match="under way"):
        take()
    move(database, "settling", reservation)
    move(database, "settled", reservation, b"\1" * 32)
    assert take() is None


def test_only_a_deposit_is_taken_as_one(database: Database) -> None:
    with pytest.raises(PaymentRefusedError):
        database.write_now(lambda tx: BOOK.reserve_deposit(tx, Payer().pays(100), TERMS, now=NOW))


def test_the_same_nonce_of_another_payer_or_token_is_another_authorization(
    database: Database,
) -> None:
    reserve(database, verified())
    other_payer = Payer(key=Signer(b"\3" * 32)).authorize(value=100, nonce=b"\7" * 32)
    other_token = replace(TOKEN, address="0x2222222222222222222222222222222222222222")
    elsewhere = Payer(make_terms(token=other_token)).authorize(value=100, nonce=b"\7" * 32)
    for payment, token in ((other_payer, TOKEN), (elsewhere, other_token)):
        reserve(
            database,
            verify_authorization(payment, token=token, pay_to=RECEIVER, amount=100, now=NOW),
        )
