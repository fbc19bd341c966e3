"""Receipts: what a payer refuses, then what the node signs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from inference.audit.document import FormatError
from inference.database import Database
from inference.errors import AuditError
from inference.kept_receipts import find_receipt, store_receipt
from inference.payments import pricing
from inference.receipt_format import PriceFacts, Receipt, parse_receipt
from inference.receipts import (
    RECEIPT_STRUCT,
    SaltedHash,
    Salts,
    SignedReceipt,
    issue,
    price_of,
    receipt_domain,
    salted_hash,
    token_digest,
    verify_receipt,
)
from tests.inference.receipt_samples import (
    ANCHOR,
    CHAIN_ID,
    COST,
    DOMAIN,
    NODE,
    QUOTE,
    REQUEST,
    RESPONSE,
    SALTS,
    STRANGER,
    call,
)

SIGNED = issue(NODE, DOMAIN, call(), seq=3, prev=b"\x07" * 32, salts=SALTS)


def check(signed: SignedReceipt, **bytes_of: bytes) -> Receipt:
    return verify_receipt(signed, node=NODE.address, domain=DOMAIN, **bytes_of)


def resigned(**changes: Any) -> SignedReceipt:
    """A receipt the node did sign, with other facts."""
    return issue(NODE, DOMAIN, replace(call(), **changes), seq=3, prev=b"\x07" * 32, salts=SALTS)


def paid(**changes: Any) -> SignedReceipt:
    return issue(NODE, DOMAIN, call(**changes), seq=3, prev=b"\x07" * 32, salts=SALTS)


def leaves_of(value: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, item in value.items():
        found += leaves_of(item, (*path, key)) if isinstance(item, dict) else [(*path, key)]
    return found


FIELDS = [path for path in leaves_of(SIGNED.receipt.to_json()) if path != ("format",)]
OTHER = {
    "id": "rcpt_fedcba9876543210",
    "status": "partial",
    "scheme": "exact",
    "finish": "length",
    "network": "eip155:1",
    "temperature": "0.5",
    "topP": "0.5",
}


def changed(path: tuple[str, ...]) -> SignedReceipt:
    """Return the receipt with one field of it changed, under the old signature."""
    bundle: Any = SIGNED.bundle()
    place = bundle["receipt"]
    for key in path[:-1]:
        place = place[key]
    old = place[path[-1]]
    if path[-1] in OTHER:
        new: object = OTHER[path[-1]]
    elif isinstance(old, int):
        new = old + 1
    elif old.isdigit():
        new = str(int(old) + 1)
    elif len(old) == 42:
        new = STRANGER.address
    else:
        new = old[:-1] + ("1" if old[-1] == "0" else "0")
    place[path[-1]] = new
    return SignedReceipt.from_json(bundle)


@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_a_receipt_with_any_field_changed_is_refused(path: tuple[str, ...]) -> None:
    with pytest.raises(AuditError) as caught:
        check(changed(path))
    assert caught.value.check == 4
    assert caught.value.evidence["receipt"] == changed(path).bundle()


def test_a_receipt_by_another_key_is_refused() -> None:
    foreign = issue(STRANGER, DOMAIN, call(), seq=3, prev=b"\x07" * 32)
    with pytest.raises(AuditError, match="is by node"):
        check(foreign)
    forged = replace(SIGNED, signature=foreign.signature)
    with pytest.raises(AuditError, match="changed, or signed by"):
        check(forged)
    with pytest.raises(AuditError, match="the receipt's signature"):
        check(replace(SIGNED, signature=bytes(65)))


def test_a_receipt_for_another_chain_or_log_is_refused() -> None:
    for domain in (receipt_domain(1, ANCHOR), receipt_domain(CHAIN_ID, NODE.address)):
        with pytest.raises(AuditError, match="changed, or signed by"):
            verify_receipt(SIGNED, node=NODE.address, domain=domain)


def test_another_request_or_response_is_refused() -> None:
    with pytest.raises(AuditError, match="about another request"):
        check(SIGNED, request=REQUEST + b" ")
    with pytest.raises(AuditError, match="about another response"):
        check(SIGNED, request=REQUEST, response=RESPONSE.replace(b"Paris", b"Lyons"))
    with pytest.raises(AuditError, match="without salts"):
        check(replace(SIGNED, salts=None), request=REQUEST)
    with pytest.raises(AuditError, match="about another request"):
        check(replace(SIGNED, salts=Salts(bytes(32), bytes(32))), request=REQUEST)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: paid(charged=COST + 1), f"charged {COST + 1}, price and tokens make it {COST}"),
        (lambda: paid(charged=COST - 1), f"make it {COST}"),
        (lambda: paid(charged=QUOTE + 1), f"more than the {QUOTE} quoted"),
        (lambda: paid(quote=QUOTE + 1), f"the price makes it {QUOTE}"),
        (lambda: resigned(status="refused"), "a refused call was charged"),
        (lambda: resigned(status="failed"), "a failed call was charged"),
        (lambda: paid(scheme="exact"), f"make it {QUOTE}"),
        (
            lambda: resigned(tokens=replace(call().tokens, output=9)),
            "9 tokens came out, 8 were allowed",
        ),
        (lambda: resigned(tokens=replace(call().tokens, output=3)), "make it 138"),
        (lambda: resigned(tokens=replace(call().tokens, input=5)), "the price makes it 190"),
    ],
)
def test_a_charge_that_does_not_follow_is_refused_though_signed(
    make: Callable[[], SignedReceipt], reason: str
) -> None:
    with pytest.raises(AuditError, match=reason) as caught:
        check(make())
    assert caught.value.check == 5
    assert caught.value.evidence == {"receipt": make().bundle()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: b.pop("signature"), "'signature' is missing"),
        (lambda b: b.update(note="hi"), "note: unknown field"),
        (lambda b: b.update(signature="0x00"), "130 hex digits"),
        (lambda b: b.update(salts={}), "salts"),
        (lambda b: b.update(receipt=[]), "receipt: list where an object belongs"),
        (lambda b: b["receipt"].update(format="weightproof/receipt@3"), "weightproof/receipt@3"),
        (lambda b: b["receipt"].pop("prev"), "receipt: field 'prev' is missing"),
        (lambda b: b["receipt"].update(tip="1"), "receipt: field 'tip' is unknown"),
        (lambda b: b["receipt"]["payment"].update(charged=128), "receipt.payment.charged"),
        (lambda b: b["receipt"]["payment"].update(charged="0128"), "receipt.payment.charged"),
        (lambda b: b["receipt"]["payment"].update(charged="1e3"), "receipt.payment.charged"),
        (lambda b: b["receipt"]["payment"].update(charged="9" * 999), "receipt.payment.charged"),
        (lambda b: b["receipt"]["payment"].update(scheme="upto"), "receipt.payment.scheme"),
        (lambda b: b["receipt"].update(seq=True), "receipt.seq"),
        (lambda b: b["receipt"].update(seq=2**53), "receipt.seq"),
        (lambda b: b["receipt"].update(seq=None), "receipt.seq"),
        (lambda b: b["receipt"].update(status="fine"), "receipt.status"),
        (lambda b: b["receipt"].update(id="../../etc/passwd"), "receipt.id"),
        (lambda b: b["receipt"].update(node=NODE.address.lower()), "receipt.node"),
        (lambda b: b["receipt"]["sampling"].update(temperature="0.50"), "temperature"),
        (lambda b: b["receipt"]["sampling"].update(temperature=0.5), "temperature"),
        (lambda b: b["receipt"]["model"].update(name="a\x1b[31m"), "receipt.model.name"),
        (lambda b: b["receipt"]["model"].update(name="x" * 201), "more than 200"),
        (lambda b: b["receipt"]["model"]["block"].update(hash="0x" + "AB" * 32), "lowercase"),
    ],
)
def test_a_bundle_of_another_shape_is_refused(change: Callable[[Any], object], reason: str) -> None:
    bundle = SIGNED.bundle()
    change(bundle)
    with pytest.raises(FormatError, match=reason):
        SignedReceipt.from_json(bundle)


def test_bytes_that_are_not_the_canonical_receipt_are_refused() -> None:
    data = SIGNED.receipt.encode()
    for wrong in (b"", data[:-1], data + b"\n", data.replace(b":", b": ", 1), b"x" * 20_000):
        with pytest.raises(FormatError, match="receipt: "):
            parse_receipt(wrong)


def test_values_that_cannot_be_written_are_refused_at_birth() -> None:
    with pytest.raises(FormatError, match="charged"):
        call(charged=-1)
    with pytest.raises(FormatError, match="payer"):
        call(payer="0x0")
    with pytest.raises(FormatError, match="32"):
        SaltedHash(b"short")


def test_a_good_receipt_is_accepted_with_its_bytes() -> None:
    assert check(SIGNED, request=REQUEST, response=RESPONSE) == SIGNED.receipt
    assert (SIGNED.receipt.seq, SIGNED.receipt.prev) == (3, b"\x07" * 32)


@pytest.mark.parametrize(
    "signed",
    [
        paid(
            scheme="exact", charged=QUOTE, cumulative=QUOTE, channel=bytes(32), nonce=b"\x09" * 32
        ),
        resigned(status="partial"),
        resigned(status="refused", payment=call(charged=0, cumulative=0).payment),
        resigned(status="failed", payment=call(charged=0, cumulative=0).payment),
        resigned(model=replace(call().model, model_id=bytes(32)), status="partial"),
    ],
)
def test_every_outcome_has_a_receipt(signed: SignedReceipt) -> None:
    assert check(signed) == parse_receipt(signed.receipt.encode())


def test_the_bundle_comes_back_as_it_was_and_the_log_never_sees_the_salts() -> None:
    assert SignedReceipt.from_json(SIGNED.bundle()) == SIGNED
    assert SignedReceipt.from_json(SIGNED.public()) == replace(SIGNED, salts=None)
    entry = SIGNED.entry()
    assert entry.seq == 3
    assert entry.body == {key: SIGNED.bundle()[key] for key in ("receipt", "signature")}
    assert SALTS.request.hex() not in entry.encode().decode()


def test_the_signature_is_eip_712_as_wallets_compute_it() -> None:
    receipt = SIGNED.receipt
    message = {
        "receiptDigest": hashlib.sha256(receipt.encode()).digest(),
        "modelId": receipt.model.model_id,
        "payer": receipt.payment.payer,
        "charged": receipt.payment.charged,
        "requestHash": receipt.request.hash,
        "responseHash": receipt.response.hash,
        "seq": receipt.seq,
    }
    domain = {
        "name": "Weightproof Receipt",
        "version": "1",
        "chainId": CHAIN_ID,
        "verifyingContract": ANCHOR,
    }
    fields = [{"name": name, "type": kind} for name, kind in RECEIPT_STRUCT.fields.items()]
    typed = encode_typed_data(domain, {"Receipt": fields}, message)
    assert Account.recover_message(typed, signature=SIGNED.signature) == NODE.address


def test_a_stream_is_hashed_piece_by_piece_as_in_one() -> None:
    pieces = [b"data: {}\n\n", b"", b"data: [DONE]\n\n"]
    streamed = SaltedHash(SALTS.response)
    for piece in pieces:
        streamed.add(piece)
    assert streamed.digest() == salted_hash(SALTS.response, b"".join(pieces))
    assert salted_hash(b"\x01" * 32, b"hi") == hashlib.sha256(b"\x01" * 32 + b"hi").digest()


def test_token_digests_bind_ids_and_their_order() -> None:
    assert len({token_digest(ids) for ids in ((), (0,), (0, 0), (1, 2), (2, 1))}) == 5
    packed = b"weightproof/tokens@1\0" + b"\x01\0\0\0" + b"\x02\x01\0\0"
    assert token_digest([1, 258]) == hashlib.sha256(packed).digest()


@given(
    st.tuples(*[st.integers(0, 2**64)] * 3).filter(any),
    st.integers(0, 2**20),
    st.integers(0, 2**20),
)
def test_the_receipts_price_is_the_price_calls_are_charged_at(
    price: tuple[int, int, int], used_in: int, used_out: int
) -> None:
    charged = pricing.charge(pricing.Price(*price), pricing.Usage(used_in, used_out))
    assert price_of(PriceFacts(*price), used_in, used_out) == charged


def test_the_payers_copy_is_kept_with_its_salts(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'node.db'}"
    with Database(url, chain_id=CHAIN_ID, channels=ANCHOR, node=NODE.address) as database:
        bare = replace(resigned(id="rcpt_without_salts"), salts=None)
        bare = replace(bare, receipt=replace(bare.receipt, seq=4))
        database.write_now(lambda tx: store_receipt(tx, SIGNED))
        database.write_now(lambda tx: store_receipt(tx, bare))
        assert database.read(lambda tx: find_receipt(tx, SIGNED.receipt.id)) == SIGNED
        assert database.read(lambda tx: find_receipt(tx, "rcpt_without_salts")) == bare
        assert database.read(lambda tx: find_receipt(tx, "rcpt_nobody_has_this")) is None
