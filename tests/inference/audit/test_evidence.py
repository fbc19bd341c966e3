"""Evidence offline: what is malformed, what shows nothing, and what shows a lie."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.audit.accusation import anchored_head
from inference.audit.anchor import AnchorEvent
from inference.audit.document import FormatError
from inference.audit.evidence import (
    MAX_BYTES,
    MAX_PATH,
    Evidence,
    EvidenceError,
    Fork,
    Inclusion,
    Rewrite,
    Silence,
    parse_evidence,
)
from inference.formats import find_format
from registry.errors import WeightproofError
from registry.signing.canonical import encode
from tests.inference.audit.evidence_samples import LIES, Liar, leaves
from tests.inference.receipt_samples import SALTS, STRANGER

LIAR = Liar()
VECTORS = Path(__file__).parents[2] / "vectors" / "evidence.json"
TYPES = ["leaf", "path", "root", "size", "signature", "index", "receipt", "first"]


def changed(lie: str, *path: str | int, to: Any = ..., gone: bool = False) -> bytes:
    """Evidence of a lie with one value changed, added or taken away."""
    value: Any = json.loads(LIAR.evidence(lie).encode())
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if gone:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b'{"a":1}', "not weightproof/evidence@1"),
        (b"[" * 100_000, "more than"),
        (b"[" * 20_000, "nested|not JSON"),
        (b'{"format":"weightproof/evidence@1","lie":"fork","lie":"fork"}', "lie"),
        (json.dumps({"format": "weightproof/evidence@1"}, indent=1).encode(), "not canonical"),
        (b'{"format":1.5}', "not an integer"),
        (b" " * (MAX_BYTES + 1), "more than"),
        (changed("fork", "format", to="weightproof/evidence@2"), "the one known here"),
        (changed("fork", "lie", to="theft"), "is none of"),
        (changed("fork", "lie", to=7), "is none of"),
        (changed("fork", "lie", gone=True), "is none of"),
        (changed("fork", "lie", to="twins"), "field"),
        (changed("fork", "more", to=1), "'more' is unknown"),
        (changed("fork", "first", gone=True), "'first' is missing"),
        (changed("fork", "first", "size", to=-1), "first.size"),
        (changed("fork", "first", "size", to=2**53), "2\\^53"),
        (changed("fork", "first", "size", to=10**400), "integer|large|digits"),
        (changed("fork", "first", "size", to="9"), "first.size"),
        (changed("fork", "first", "root", to="0x12"), "first.root"),
        (changed("fork", "first", "signature", to="0x" + 64 * "0"), "first.signature"),
        (changed("fork", "node", to="0x" + 40 * "a"), "node"),
        (changed("fork", "origin", to="two words"), "origin"),
        (changed("fork", "chain", to="1"), "chain"),
        (changed("drop", "found", "path", to="0x00"), "found.path"),
        (changed("drop", "found", "path", to=["0x00"]), r"found.path\[0\]"),
        (changed("drop", "found", "path", to=["0x" + 64 * "0"] * (MAX_PATH + 1)), "at most 53"),
        (changed("drop", "receipt", "salts", to=SALTS.to_json()), "receipt.salts"),
        (changed("drop", "receipt", "receipt", "format", to="weightproof/receipt@9"), "receipt"),
        (changed("twins", "first", to=7), "first"),
        (changed("rewrite", "index", to=-3), "index"),
    ],
)
def test_what_is_no_evidence_document_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        parse_evidence(data)


@pytest.mark.parametrize("name", LIAR.honest())
def test_what_an_honest_node_signed_shows_nothing(name: str) -> None:
    with pytest.raises(EvidenceError):
        LIAR.honest()[name].check()


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(
    "change",
    [{"node": STRANGER.address}, {"chain": 1}, {"anchor": STRANGER.address}],
    ids=["node", "chain", "anchor"],
)
def test_evidence_against_another_node_or_log_is_refused(lie: str, change: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError):
        replace(LIAR.evidence(lie), **change).check()


@pytest.mark.parametrize("lie", ["fork", "rewrite", "drop", "silence"])
def test_evidence_about_another_origin_is_refused(lie: str) -> None:
    with pytest.raises(EvidenceError, match="signed by"):
        replace(LIAR.evidence(lie), **{"origin": "other.org/log"}).check()


def test_a_proof_of_the_wrong_size_is_refused() -> None:
    drop = LIAR.drop()
    for path in (drop.found.path[:-1], (*drop.found.path, bytes(32)), ()):
        with pytest.raises(EvidenceError, match=r"hashes|root"):
            replace(drop, found=Inclusion(drop.found.leaf, path)).check()
    rewrite = LIAR.rewrite()
    with pytest.raises(EvidenceError, match="not in a tree"):
        replace(rewrite, index=2**53 - 1).check()


def test_a_signature_that_no_key_made_is_refused() -> None:
    fork = LIAR.fork()
    for signature in (bytes(65), b"\xff" * 65, fork.first.signature[:-1] + b"\x05"):
        with pytest.raises(EvidenceError, match="first head"):
            replace(fork, first=replace(fork.first, signature=signature)).check()


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_shown_by_its_document_alone(lie: str) -> None:
    evidence = LIAR.evidence(lie)
    evidence.check()
    read = parse_evidence(evidence.encode())
    assert read == evidence
    assert read.lie == lie
    read.check()
    assert b"salts" not in evidence.encode()
    assert (lie != "silence") == read.PROVES


@pytest.mark.parametrize("lie", LIES)
def test_evidence_is_written_as_the_vectors_have_it_for_ever(lie: str) -> None:
    kept = json.loads(VECTORS.read_text())[lie].encode()
    assert LIAR.evidence(lie).encode() == kept
    parse_evidence(kept).check()


def test_the_schema_is_published_and_names_every_lie() -> None:
    shapes = find_format("weightproof/evidence@1").schema["oneOf"]
    for lie, shape in zip(LIES, shapes, strict=True):
        value = LIAR.evidence(lie).to_json()
        assert set(shape["required"]) == set(shape["properties"]) == set(value)
        assert re.fullmatch(shape["properties"]["lie"]["pattern"], lie)


def test_the_strongest_evidence_is_taken_from_two_heads() -> None:
    who, old, new = LIAR.accused, LIAR.leaves, LIAR.other
    eight, eleven = LIAR.head(old, 8), LIAR.head(new, 11)
    assert isinstance(who.heads(eight, LIAR.head(new, 8)), Fork)
    assert isinstance(who.heads(eight, eleven), Silence)
    known = {"earlier_leaves": old[:8], "later_leaves": new}
    backwards = who.heads(eleven, eight, earlier_leaves=new, later_leaves=old)
    shown = who.heads(eight, eleven, **known)
    assert shown == backwards
    assert isinstance(shown, Rewrite)
    assert shown.index == 6


def test_heads_that_agree_are_evidence_of_nothing() -> None:
    who, log = LIAR.accused, LIAR.leaves
    eight, eleven = LIAR.head(log, 8), LIAR.head(log, 11)
    assert who.heads(eight, eight) is None
    assert who.heads(eight, eleven, earlier_leaves=log, later_leaves=log) is None
    assert who.heads(LIAR.head([], 0), eleven) is None
    assert who.drop_from(eight, LIAR.receipt(8), log) is None


def test_an_anchored_head_is_evidence_by_its_event() -> None:
    anchored = LIAR.head(LIAR.leaves, 9)
    event = AnchorEvent(9, anchored.root, 1, bytes(32), anchored.signature)
    found = LIAR.accused.heads(anchored_head(event), LIAR.head(LIAR.other, 9))
    assert found == LIAR.fork()


@given(st.data())
def test_no_change_of_a_byte_leaves_evidence_that_holds(data: st.DataObject) -> None:
    """But one: which of the two statements stands first."""
    lie = data.draw(st.sampled_from(LIES))
    whole = bytearray(LIAR.evidence(lie).encode())
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != whole[place]))
    whole[place] = byte
    with pytest.raises(WeightproofError):
        parse_evidence(bytes(whole)).check()


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.text(max_size=9) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["format", "lie", *TYPES]), inner, max_size=4)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_bytes_make_a_trace(data: bytes) -> None:
    with pytest.raises(WeightproofError):
        parse_evidence(data).check()


def test_a_long_log_needs_short_evidence() -> None:
    long = leaves(5_000)
    liar = Liar(leaves=long, other=leaves(5_000, changed=4_321))
    heads = liar.head(liar.leaves, 4_999), liar.head(liar.other, 5_000)
    found: Evidence | None = liar.accused.heads(
        *heads, earlier_leaves=liar.leaves[:4_999], later_leaves=liar.other
    )
    assert isinstance(found, Rewrite)
    assert found.index == 4_321
    found.check()
    assert len(found.encode()) < 4_096
    assert encode(found.to_json()) == found.encode()
