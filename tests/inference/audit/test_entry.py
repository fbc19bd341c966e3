"""Entries and the documents in them: one text each, everything else refused."""

from __future__ import annotations

import pytest

from inference.audit.bodies import (
    AnchorBody,
    Claim,
    IncidentBody,
    SettlementBody,
    StartBody,
    entry_of,
    parse_body,
)
from inference.audit.document import FormatError
from inference.audit.entry import INCIDENT, SETTLEMENT, Entry, parse_entry
from registry.signing.canonical import encode
from tests.inference.receipt_samples import ANCHOR, ASSET, CHAIN_ID, CHANNEL, NODE

SETTLED = SettlementBody(
    action="claim",
    token=ASSET,
    amount=0,
    claims=(Claim(CHANNEL, 2**100),),
    transaction=b"\x01" * 32,
    block=7,
    gas_used=48_321,
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"format":"weightproof/entry@2"}', "weightproof/entry@2"),
        (b'{"format":"weightproof/entry@1","kind":"start","seq":0}', "body: missing"),
        (b'{"body":{},"extra":1,"format":"weightproof/entry@1","kind":"start","seq":0}', "extra"),
        (b'{"body":{},"format":"weightproof/entry@1","kind":"gossip","seq":0}', "gossip"),
        (b'{"body":{},"format":"weightproof/entry@1","kind":"start","seq":-1}', "-1"),
        (b'{"body":{},"format":"weightproof/entry@1","kind":"start","seq":"0"}', "an integer"),
        (b'{"body":[],"format":"weightproof/entry@1","kind":"start","seq":0}', "an object"),
        (b'{"seq":0,"body":{},"format":"weightproof/entry@1","kind":"start"}', "not canonical"),
        (b'{"body":{},"format":"weightproof/entry@1","kind":"start","seq":0.5}', "0.5"),
        (b'{"body":{},"format":"weightproof/entry@1","kind":"start","seq":0}\n', "not canonical"),
        (b'{"body":{"a":' + b"[" * 20 + b"]" * 20 + b"}}", "nested"),
        (b" " * (256 * 1024 + 1), "bytes of JSON"),
    ],
)
def test_anything_but_one_canonical_entry_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        parse_entry(data)


def test_an_entry_larger_than_the_limit_is_not_written() -> None:
    with pytest.raises(FormatError, match="more than"):
        Entry(0, INCIDENT, {"detail": "x" * 300_000}).encode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"amount": "007"}, "amount"),
        ({"amount": 7}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "1" * 100}, "amount"),
        ({"amount": str(2**256)}, "amount"),
        ({"token": ASSET.lower()}, "EIP-55"),
        ({"transaction": "0x" + "AB" * 32}, "lowercase"),
        ({"transaction": "0x00"}, "64 hex digits"),
        ({"block": True}, "not an integer"),
        ({"block": -1}, "between"),
        ({"action": "steal"}, "steal"),
        ({"claims": {}}, "not a list"),
        ({"claims": [{}]}, r"claims\[0\]: field 'channel' is missing"),
        ({"tip": "1"}, "'tip' is unknown"),
    ],
)
def test_a_body_with_another_spelling_is_refused(change: dict[str, object], reason: str) -> None:
    body = SETTLED.to_json() | change  # type: ignore[operator]  # foreign values on purpose
    with pytest.raises(FormatError, match=reason):
        parse_body(Entry(0, SETTLEMENT, body))


def test_a_value_that_has_no_text_is_refused_at_birth() -> None:
    with pytest.raises(FormatError, match="totalClaimed"):
        Claim(CHANNEL, -1)
    with pytest.raises(FormatError, match="channel"):
        Claim(b"short", 1)


def test_every_body_comes_back_as_it_was() -> None:
    bodies = (
        SETTLED,
        AnchorBody(9, b"\x02" * 32, b"\x03" * 32, 11, 40_000),
        IncidentBody("resident-tensors-changed", "0x" + "01" * 32, "lm_head.weight", 1_764_000_000),
        StartBody(NODE.address, "example.org/log", CHAIN_ID, ANCHOR, "weightproof 0.1.0", 1),
    )
    for seq, body in enumerate(bodies):
        entry = parse_entry(entry_of(seq, body).encode())
        assert entry.seq == seq
        assert parse_body(entry) == body
        assert entry.encode() == encode(
            {"format": "weightproof/entry@1", "seq": seq, "kind": entry.kind, "body": entry.body}
        )


def test_an_incident_is_logged_whatever_its_text_holds() -> None:
    with pytest.raises(FormatError, match="detail"):
        IncidentBody("model stopped", "", "a\x1b[31mred\nline", 0)
    foreign = "a\x1b[31mred\n\u202edlrow — 世界 \ud800" + "x" * 5000
    body = IncidentBody.of("model stopped", "", foreign, 0)
    assert body.detail.startswith("a?[31mred??dlrow — 世界 ?xxx")
    assert len(body.detail) == 1000
    assert parse_body(parse_entry(entry_of(0, body).encode())) == body
