"""Documents write their own text; it is the text that encodes any JSON would write."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.audit.document import (
    AddressKind,
    AmountKind,
    BytesKind,
    CountKind,
    Document,
    ListKind,
    NestedKind,
    OptionalKind,
    Remark,
    TextKind,
)
from inference.audit.entry import EncodedEntry, Entry
from inference.audit.field_kinds import ManyKind
from inference.offer_receipt import Offer, PaymentReceipt
from inference.payments.x402 import decode_header, settle_response
from inference.price_facts import PriceOffer
from inference.receipt_format import PlannedReceipt, Receipt, ReceiptKind
from inference.receipts import ReceiptBundle, Salts, SignedReceipt
from inference.resident_statement import ResidentStatement
from registry.signing.canonical import MAX_INTEGER, encode
from tests.inference.receipt_samples import ASSET, NODE, RECEIVER

_REMARK = Remark.__metadata__[0]  # type: ignore[attr-defined]  # an Annotated alias
KINDS = (
    Receipt,
    PlannedReceipt,
    PriceOffer,
    Offer,
    PaymentReceipt,
    Salts,
    ResidentStatement,
    ReceiptBundle,
)


def values(kind: object) -> st.SearchStrategy[Any]:
    """Return what a field of `kind` may hold."""
    match kind:
        case TextKind():
            found = st.from_regex(kind.pattern, fullmatch=True)
            return found.filter(lambda text: len(text) <= kind.limit and text.isascii())
        case CountKind():
            return st.integers(0, MAX_INTEGER)
        case AmountKind():
            return st.integers(0, 2**256 - 1)
        case BytesKind():
            return st.binary(min_size=kind.size, max_size=kind.size)
        case AddressKind():
            return st.sampled_from([ASSET, NODE.address, RECEIVER])
        case ManyKind():
            return st.lists(values(kind.kind), max_size=4).map(tuple)
        case OptionalKind():
            return st.none() | values(kind.kind)
        case ReceiptKind():
            return documents(Receipt) | documents(PlannedReceipt)
        case NestedKind():
            return documents(kind.document)
        case ListKind():
            return st.lists(documents(kind.document), max_size=3).map(tuple)
    raise AssertionError(f"no values for {kind}")


def documents(kind: type[Document]) -> st.SearchStrategy[Any]:
    """Return documents of one class."""
    fields = {name: values(how) for name, (_, how) in kind.FIELDS.items()}
    return st.builds(kind, **fields)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_a_document_writes_the_canonical_text_of_its_json(
    kind: type[Document], data: st.DataObject
) -> None:
    document = data.draw(documents(kind))
    assert document.encode() == encode(document.to_json())
    assert kind.from_json(json.loads(document.canonical)) == document


@given(st.text(max_size=30))
def test_free_text_is_quoted_as_canonical_json_quotes_it(text: str) -> None:
    quoted = replace(_REMARK, pattern=r"(?s:.*)").text(text, "text")
    try:
        assert quoted.encode() == encode(text)
    except UnicodeEncodeError:
        assert any("\ud800" <= letter <= "\udfff" for letter in text)


@settings(max_examples=25)
@given(
    receipt=documents(Receipt) | documents(PlannedReceipt),
    signature=st.binary(min_size=65, max_size=65),
    salts=st.none() | documents(Salts),
)
def test_a_signed_receipt_has_one_text_in_the_log_and_in_the_header(
    receipt: Receipt, signature: bytes, salts: Salts | None
) -> None:
    signed = SignedReceipt(receipt, signature, salts)
    assert signed.public_text().encode() == encode(signed.public())
    assert signed.bundle_text().encode() == encode(signed.bundle())
    entry, encoded = signed.entry(), signed.encoded_entry()
    assert (type(entry), type(encoded)) == (Entry, EncodedEntry)
    assert encoded.encode() == entry.encode()
    text = {"weightproof": signed.bundle_text()}
    header = settle_response(success=True, network="eip155:1", written=text)
    assert decode_header(header)["extensions"] == {"weightproof": signed.bundle()}
    more = settle_response(success=True, network="eip155:1", written=text, extensions={"a": 1})
    assert decode_header(more)["extensions"] == {"a": 1, "weightproof": signed.bundle()}
