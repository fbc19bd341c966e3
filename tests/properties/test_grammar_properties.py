"""The auditor's fast reading of receipts takes nothing that the strict parser does not take."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.audit.chain_view import AuditTarget
from inference.audit.document import Document, ListKind, Remark, TextKind
from inference.audit.entry import Entry, parse_entry
from inference.audit.examination import Examiner, open_receipt, quick_digest, read_bare
from inference.audit.grammar import Grammar, NoGrammarError
from inference.errors import AuditError
from inference.receipt_format import Receipt, ReceiptFacts, TokenFacts
from inference.receipts import SignedReceipt, charge_fault, issue, signing_digest
from registry.errors import WeightproofError
from tests.inference.receipt_samples import (
    ANCHOR,
    CHAIN_ID,
    DISCOUNTED,
    DOMAIN,
    NODE,
    PLAN,
    REGISTRY,
    call,
    planned,
)

SEQ = 41
FACTS = [call(), planned(PLAN, charged=DISCOUNTED)]
SAMPLES = [issue(NODE, DOMAIN, facts, seq=SEQ, prev=b"\x07" * 32) for facts in FACTS]
ENTRIES = [signed.entry().encode() for signed in SAMPLES]
EXAMINER = Examiner(AuditTarget(NODE.address, "example.org/log", CHAIN_ID, ANCHOR, REGISTRY))
# What a liar would try in the place of a value: other spellings, limits, other types.
SPELLINGS = (
    '"0"', '"00"', '"-1"', '"1e3"', '"+1"', '" 1"', "0", "00", "-0", "-1", "1.0", "1e3", "true",
    "null", "[]", "{}", '""', '"\\u0041"', '"\\n"', '"é"', '"\\""', '"\\\\"',
    '"0X' + "0" * 64 + '"',
    '"0x' + "A" * 64 + '"', '"0x' + "0" * 63 + '"', '"0x' + "0" * 66 + '"', str(2**53 - 1),
    str(2**53), f'"{2**256 - 1}"', f'"{2**256}"', f'"{10**77}"', '"' + "a" * 200 + '"',
    '"' + "a" * 201 + '"', '"0.50"', '"0."', '".5"', '"ok"', '"OK"', '"eip155:01"', '"\x7f"',
    f'"{NODE.address.lower()}"', f'"{NODE.address}"', '"1"', "9007199254740991", "1 ", '"\n"',
)  # fmt: skip
VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|[0-9]+')


def strictly(data: bytes) -> SignedReceipt | None:
    try:
        return open_receipt(parse_entry(data))
    except WeightproofError:
        return None


def agree(data: bytes) -> None:
    """What the grammar reads, the parser reads too, to the same values and the same bytes."""
    fast = read_bare(data)
    if fast is None:
        return
    slow = strictly(data)
    assert slow is not None, data
    assert fast.receipt == slow.receipt
    assert fast.signature == slow.signature
    assert fast.receipt.encode() == slow.receipt.encode()
    assert charge_fault(fast.receipt) == charge_fault(slow.receipt)
    assert quick_digest(fast.receipt, DOMAIN) == signing_digest(slow.receipt, DOMAIN)


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_value_in_every_odd_spelling_is_read_alike(entry: bytes) -> None:
    text = entry.decode()
    for found in VALUE.finditer(text):
        for spelling in SPELLINGS:
            agree((text[: found.start()] + spelling + text[found.end() :]).encode())


@given(st.sampled_from(ENTRIES), st.data())
@settings(max_examples=400)
def test_bytes_changed_taken_out_or_put_in_are_read_alike(
    entry: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(entry) - 1))
    count = data.draw(st.integers(0, 3))
    put = data.draw(st.binary(max_size=3) | st.sampled_from([b" ", b"\n", b'"', b",", b"0", b"\\"]))
    agree(entry[:at] + put + entry[at + count :])


@given(st.sampled_from(ENTRIES), st.data())
@settings(max_examples=200)
def test_fields_moved_doubled_or_dropped_are_read_alike(entry: bytes, data: st.DataObject) -> None:
    rows = entry.decode().split(",")
    at, to = (data.draw(st.integers(0, len(rows) - 1)) for _ in range(2))
    change = data.draw(st.sampled_from(["move", "double", "drop"]))
    row = rows[at] if change == "double" else rows.pop(at)
    if change != "drop":
        rows.insert(to, row)
    agree(",".join(rows).encode())


NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200)
COUNTS = st.integers(0, 2**53 - 1)
AMOUNTS = st.integers(0, 2**256 - 1)


@given(NAMES, COUNTS, AMOUNTS, st.binary(min_size=32, max_size=32), st.booleans())
@settings(max_examples=200)
def test_honest_receipts_are_read_by_the_grammar(
    name: str, count: int, amount: int, digest: bytes, with_plan: bool
) -> None:
    facts = planned(PLAN, charged=amount) if with_plan else call(charged=amount)
    facts = replace(
        facts,
        model=replace(facts.model, name=name),
        tokens=TokenFacts(digest, digest, count, count),
    )
    signed = issue(NODE, DOMAIN, facts, seq=SEQ, prev=digest)
    data = signed.entry().encode()
    agree(data)
    plain = not set('"\\') & set(name) and count < 9 * 10**15 and amount < 10**77
    assert (read_bare(data) is not None) == plain
    assert strictly(data) == signed


@given(st.sampled_from(FACTS), st.sampled_from(["none", "charge", "seq", "signature"]))
@settings(max_examples=30)
def test_what_is_found_of_a_receipt_does_not_depend_on_how_it_was_read(
    facts: ReceiptFacts, lie: str
) -> None:
    """A name with a quotation mark is the parser's; everything else is alike."""
    if lie == "charge":
        facts = replace(facts, payment=replace(facts.payment, charged=1))
    rows = []
    for name in ("smollm2", 'smoll"m2'):
        named = replace(facts, model=replace(facts.model, name=name))
        signed = issue(NODE, DOMAIN, named, seq=SEQ + (lie == "seq"), prev=b"\x07" * 32)
        if lie == "signature":
            signed = replace(signed, signature=bytes(64) + b"\x1b")
        entry = Entry(SEQ, "receipt", signed.public()).encode()
        assert (read_bare(entry) is None) == ('"' in name or lie == "seq")
        [row] = EXAMINER.page(SEQ, [entry])
        assert row.call is not None
        found = [each and (each.check, each.message) for each in row[4:]]
        rows.append((row.kind, row.call, found))
    assert rows[0] == rows[1]
    assert any(rows[0][2]) == (lie != "none")


def test_a_document_with_lists_or_free_letters_has_no_grammar() -> None:
    class Free(Document):
        text: Remark

    class Rows(Document):
        rows: Annotated[tuple[TokenFacts, ...], ListKind(TokenFacts, 2)]

    class Sly(Document):
        text: Annotated[str, TextKind(r"[!-~]*")]

    for document in (Free, Rows, Sly):
        with pytest.raises(NoGrammarError):
            Grammar(document)
    assert Grammar(Receipt).match("{}") is None


def test_a_receipt_whose_entry_states_another_place_is_not_read_by_the_grammar() -> None:
    entry = Entry(SEQ + 1, "receipt", SAMPLES[0].public()).encode()
    assert read_bare(entry) is None
    [row] = EXAMINER.page(SEQ + 1, [entry])
    assert row.signature is not None
    assert row.signature.message == f"the receipt for {SEQ} stands at {SEQ + 1}"
    assert isinstance(row.signature.error(), AuditError)
    assert json.dumps(row.signature.evidence)
