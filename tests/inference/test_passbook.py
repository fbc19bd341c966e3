"""The passbook: a charge that no receipt shows is found, whatever order calls end in."""

from __future__ import annotations

import pytest

from inference.errors import AuditError
from inference.passbook import Passbook
from inference.receipts import SignedReceipt, issue
from tests.inference.receipt_samples import CHANNEL, COST, DOMAIN, NODE, call


def receipt(cumulative: int, charged: int = COST, channel: bytes = CHANNEL) -> SignedReceipt:
    facts = call(cumulative=cumulative, charged=charged, channel=channel)
    return issue(NODE, DOMAIN, facts, seq=cumulative, prev=bytes(32))


def enter(book: Passbook, signed: SignedReceipt | None, *, is_answered: bool = True) -> None:
    with book.call() as line:
        line.signed, line.is_answered = signed, is_answered


@pytest.mark.parametrize("said", [2 * COST + 1, 3 * COST, COST])
def test_a_sum_that_receipts_do_not_make_is_refused(said: int) -> None:
    book = Passbook()
    first, second = receipt(COST), receipt(said)
    enter(book, first)
    with pytest.raises(AuditError, match=f"had {COST} by the receipt before") as caught:
        enter(book, second)
    assert caught.value.check == 5
    assert caught.value.evidence in (
        {"receipt": second.public(), "before": first.public()},
        {"receipt": first.public(), "before": second.public()},
    )


def test_a_refusal_without_a_receipt_explains_no_charge() -> None:
    book = Passbook()
    enter(book, receipt(COST))
    enter(book, None)
    with pytest.raises(AuditError, match="the receipt says"):
        enter(book, receipt(3 * COST))


def test_calls_at_the_same_time_are_compared_when_all_have_ended() -> None:
    book = Passbook()
    enter(book, receipt(COST))
    with book.call() as outer:
        enter(book, receipt(3 * COST))
        enter(book, receipt(4 * COST))
        outer.signed = receipt(2 * COST)
    assert len(book.receipts) == 4


def test_a_call_that_was_broken_off_may_have_cost_something() -> None:
    book = Passbook()
    enter(book, receipt(COST))
    with pytest.raises(ConnectionError), book.call():
        raise ConnectionError
    enter(book, receipt(3 * COST))
    with pytest.raises(AuditError):
        enter(book, receipt(5 * COST))


def test_failures_cost_nothing_and_channels_are_counted_each() -> None:
    book = Passbook()
    enter(book, receipt(COST))
    enter(book, receipt(COST, charged=0))
    enter(book, receipt(9 * COST, channel=b"\xc2" * 32))
    enter(book, receipt(2 * COST))
    assert [signed.receipt.payment.charged for signed in book.receipts] == [COST, 0, COST, COST]
