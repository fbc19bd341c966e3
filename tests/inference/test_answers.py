"""What a retry is told, and when a name counts for nothing: the rules, on a database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from inference.answers import AnswerBook, is_final
from inference.answers_config import AnswersConfig
from inference.api.responses import respond
from inference.call import Answer, Call
from inference.database import Database
from inference.errors import (
    ConflictError,
    GenerationError,
    IdentifierRequiredError,
    InProgressError,
    MalformedPaymentError,
    ModelStoppedError,
    QueueFullError,
    RequestError,
    UnavailableError,
)
from inference.payments.authorizations import AuthorizationBook
from inference.payments.exact import verify_authorization
from inference.payments.identifier import Ticket, ticket
from inference.payments.reservation import Reservation
from inference.payments.x402 import PaymentPayload
from inference.retries import Retries
from tests.inference.payments.payer import NOW, RECEIVER, TOKEN, Payer
from tests.inference.payments.shop import exactly

BOOK = AnswerBook(AnswersConfig(keep_s=100, payer_bytes=1000, total_bytes=2500))
SPENT = AuthorizationBook()
PAYER = Payer()
TICKET = Ticket(PAYER.key.address, "pay_0123456789abcdef", b"\1" * 32)
OTHER = Ticket(TICKET.payer, TICKET.id, b"\2" * 32)
ANSWER = Answer(200, b"an answer", {"PAYMENT-RESPONSE": "header", "Cache-Control": "no-store"})


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url, chain_id=31337, channels="0xC", node="0xN") as database:
        yield database


def begin(database: Database, named: Ticket = TICKET, *, nonce: int = 1) -> Reservation:
    """Reserve an exact payment and take a name for it, as a call does."""
    signed = PAYER.authorize(value=5, nonce=bytes([nonce]) * 32)
    paid = verify_authorization(signed, token=TOKEN, pay_to=RECEIVER, amount=5, now=NOW)

    def both(tx: Any) -> Reservation:
        reservation = SPENT.reserve(tx, paid, now=NOW, binding=named.binding)
        BOOK.claim(tx, named, reservation.id, now=NOW)
        return reservation

    return database.write_now(both)


def do(
    database: Database, *moves: str, of: Reservation, tx_hash: bytes | None = b"\1" * 32
) -> None:
    for move in moves:
        extra = () if move in ("release", "give_up") else (tx_hash,)
        database.write_now(lambda tx, m=move, e=extra: getattr(SPENT, m)(tx, of, *e))


def find(database: Database, named: Ticket = TICKET, now: int = NOW) -> Answer | None:
    return database.read(lambda tx: BOOK.find(tx, named, now=now))


def test_while_a_call_is_served_its_copies_wait_and_others_are_refused(database: Database) -> None:
    assert find(database) is None
    begin(database)
    with pytest.raises(InProgressError):
        find(database)
    with pytest.raises(ConflictError):
        find(database, OTHER)
    with pytest.raises(InProgressError):
        database.write_now(lambda tx: BOOK.claim(tx, TICKET, "another", now=NOW))
    with pytest.raises(ConflictError):
        database.write_now(lambda tx: BOOK.claim(tx, OTHER, "another", now=NOW))


def test_an_answer_is_told_again_to_the_same_call_only(database: Database) -> None:
    own = begin(database)
    database.write_now(lambda tx: BOOK.keep(tx, TICKET, own.id, ANSWER))
    do(database, "settling", "settled", of=own)
    told = find(database)
    assert told is not None
    assert (told.status, told.body, told.media_type, told.failure) == (
        200,
        b"an answer",
        "application/json",
        None,
    )
    assert told.headers["PAYMENT-RESPONSE"] == "header"
    with pytest.raises(ConflictError) as caught:
        find(database, OTHER)
    assert (caught.value.status, caught.value.afresh) == (409, False)


@pytest.mark.parametrize(
    "failure",
    [GenerationError("it broke"), ModelStoppedError("revoked"), RequestError("bad", param="n")],
    ids=["generation", "stopped", "request"],
)
def test_a_failure_is_told_again_word_for_word(
    database: Database, failure: GenerationError | ModelStoppedError | RequestError
) -> None:
    assert is_final(failure)
    own = begin(database)
    answer = Answer(failure.status, b"", ANSWER.headers, failure)
    database.write_now(lambda tx: BOOK.keep(tx, TICKET, own.id, answer))
    told = find(database)
    assert told is not None
    assert respond(told).body == respond(answer).body
    assert respond(told).status_code == failure.status


@pytest.mark.parametrize(
    "failure", [QueueFullError(3), UnavailableError("later")], ids=["full", "unavailable"]
)
def test_what_may_go_well_in_a_moment_is_no_answer(failure: UnavailableError) -> None:
    assert not is_final(failure)


def test_a_call_that_ended_without_an_answer_leaves_its_name_free(database: Database) -> None:
    own = begin(database)
    do(database, "give_up", of=own)
    assert find(database) is None
    assert find(database, OTHER) is None
    again = begin(database, OTHER, nonce=2)
    with pytest.raises(ConflictError):
        find(database)
    # What the first call still wants to keep comes too late.
    database.write_now(lambda tx: BOOK.keep(tx, TICKET, own.id, ANSWER))
    with pytest.raises(InProgressError):
        find(database, OTHER)
    assert again.id != own.id


def test_where_money_may_have_moved_only_the_same_payment_may_come_again(
    database: Database,
) -> None:
    own = begin(database)
    do(database, "settling", "unknown", of=own)
    assert find(database) is None
    with pytest.raises(ConflictError):
        find(database, OTHER)
    with pytest.raises(ConflictError):
        begin(database, OTHER, nonce=2)
    do(database, "paid", of=own)
    with pytest.raises(ConflictError):
        find(database, OTHER)
    assert begin(database).paid_in == b"\1" * 32


def test_an_answer_is_gone_when_its_time_has_passed(database: Database) -> None:
    own = begin(database)
    database.write_now(lambda tx: BOOK.keep(tx, TICKET, own.id, ANSWER))
    do(database, "settling", "settled", of=own)
    read = database.read
    assert read(lambda tx: BOOK.of_payer(tx, TICKET.payer, TICKET.id, now=NOW + 99)) is not None
    assert read(lambda tx: BOOK.of_payer(tx, TICKET.payer, TICKET.id, now=NOW + 100)) is None
    assert read(lambda tx: BOOK.of_payer(tx, RECEIVER, TICKET.id, now=NOW)) is None
    assert find(database, now=NOW + 100) is None
    # Its name is free, and the payment still is not: `authorizations` remembers it for ever.
    database.write_now(lambda tx: BOOK.claim(tx, OTHER, "another", now=NOW + 100))


def test_what_is_too_large_is_not_kept_at_all(database: Database) -> None:
    own = begin(database)
    large = Answer(200, b"x" * 1001, ANSWER.headers)
    database.write_now(lambda tx: BOOK.keep(tx, TICKET, own.id, large))
    do(database, "settling", "settled", of=own)
    assert find(database) is None


def test_the_sweep_deletes_what_expired_and_the_oldest_beyond_the_limits(
    database: Database,
) -> None:
    def put(payer: str, number: int, size: int) -> None:
        named = Ticket(payer, f"pay_0123456789abc{number:03}", b"\1" * 32)
        answer = Answer(200, b"x" * (size - 6), ANSWER.headers)

        def write(tx: Any) -> None:
            BOOK.claim(tx, named, f"{number}", now=NOW + number)
            BOOK.keep(tx, named, f"{number}", answer)

        database.write_now(write)

    def left(now: int) -> list[int]:
        if rows := database.read(lambda tx: BOOK.spent(tx, now=now)):
            database.write_now(lambda tx: BOOK.delete(tx, rows))
        ids = database.read(lambda tx: tx.exec_driver_sql("SELECT id FROM answers").all())
        return sorted(int(row[0][-3:]) for row in ids)

    # A call under way is not what fills the disk.
    under_way = Ticket("0xA", "pay_0123456789abc999", b"\1" * 32)
    database.write_now(lambda tx: BOOK.claim(tx, under_way, "999", now=NOW - 1))
    for number in range(4):
        put("0xA", number, 300)  # three fit one payer
    assert left(NOW + 50) == [1, 2, 3, 999]
    put("0xB", 4, 900)
    put("0xC", 5, 800)  # all together: 900 + 900 + 800
    assert left(NOW + 50) == [2, 3, 4, 5, 999]
    assert left(NOW + 103) == [4, 5]
    assert left(NOW + 200) == []


def paid(identifier: object) -> PaymentPayload:
    payload = exactly(PAYER.authorize(value=5))
    accepted = {"scheme": "exact", "network": "eip155:31337", "amount": "5"}
    extensions = {"payment-identifier": {"info": {"required": True, "id": identifier}}}
    return PaymentPayload(accepted, payload, {}, extensions, b"")


def call(body: bytes = b"{}") -> Call:
    async def prepare(_: object) -> Any:
        raise AssertionError

    return Call("http://node/v1/chat", body, None, "m", "chat", prepare)


def test_a_node_can_want_every_call_to_be_named(database: Database) -> None:
    strict = Retries(database, AnswerBook(AnswersConfig(required=True)))
    assert strict.declaration()["info"] == {"required": True}  # type: ignore[index]  # it declares
    with pytest.raises(IdentifierRequiredError) as caught:
        strict.ticket(call(), paid(None))
    assert (caught.value.status, caught.value.code) == (400, "payment_identifier_required")
    with pytest.raises(MalformedPaymentError):
        strict.ticket(call(), paid("short"))
    assert strict.ticket(call(), paid("x" * 16)) is not None


def test_a_node_can_keep_nothing(database: Database) -> None:
    off = Retries(database, AnswerBook(AnswersConfig(keep_s=0)))
    assert off.declaration() is None
    assert off.ticket(call(), paid("x" * 16)) is None


def test_a_binding_holds_what_was_signed_and_asked_and_not_what_was_shown(
    database: Database,
) -> None:
    first = paid("x" * 16)

    def bound(payment: PaymentPayload, path: str = "/a", body: bytes = b"1") -> Ticket | None:
        return ticket(payment, path, body)

    shown = replace(
        first,
        accepted={**first.accepted, "extra": {"name": "another 402 shows this"}},
        payload=dict(reversed(first.payload.items())),
        resource={"url": "http://another.port"},
        extensions={**first.extensions, "offer-receipt": {"info": {}}},
        raw=b"other bytes",
    )
    assert bound(first) == bound(shown)
    other = PaymentPayload(
        {**first.accepted, "amount": "6"}, first.payload, {}, first.extensions, b""
    )
    bindings = {
        bound(one, path, body)
        for one, path, body in (
            (first, "/a", b"1"),
            (first, "/b", b"1"),
            (first, "/a", b"2"),
            (other, "/a", b"1"),
            (paid("x" * 16), "/a", b"1"),
        )
    }
    assert len(bindings) == 5
