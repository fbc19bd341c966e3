"""Disclosure: nobody sees a call but its payer, and whom its payer lets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from inference.audit.disclosure import (
    MAX_IDS,
    Consent,
    Disclosed,
    DisclosureRequest,
    NotAllowedError,
    Refusal,
    check_request,
    disclosure_domain,
)
from inference.audit.document import FormatError
from inference.errors import AuditError
from inference.receipts import issue
from registry.signing.signer import Signer
from tests.inference.receipt_samples import (
    ANCHOR,
    CHAIN_ID,
    DOMAIN,
    NODE,
    PAYER,
    REQUEST,
    SALTS,
    STRANGER,
    call,
)

NOW = 1_764_000_500
ASKING = disclosure_domain(CHAIN_ID, ANCHOR)
AUDITOR = Signer(b"\x44" * 32)
SIGNED = issue(NODE, DOMAIN, call(), seq=5, prev=bytes(32))


def consent(by: Signer = PAYER, **changes: Any) -> Consent:
    given: dict[str, Any] = {"node": NODE.address, "until": NOW + 100, "auditor": AUDITOR.address}
    return Consent.give(by, ASKING, **(given | changes))


def request(by: Signer = AUDITOR, **changes: Any) -> DisclosureRequest:
    asked: dict[str, Any] = {
        "node": NODE.address,
        "receipt": SIGNED.receipt.id,
        "at": NOW,
        "consent": None if by is PAYER else consent(),
    }
    return DisclosureRequest.ask(by, ASKING, **(asked | changes))


def check(
    asked: DisclosureRequest, chooses: Callable[[int, int], bool] = lambda seq, rate: False
) -> None:
    check_request(asked, SIGNED.receipt, ASKING, now=NOW, chooses=chooses)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (lambda: request(node=STRANGER.address), "another node"),
        (lambda: request(receipt="rcpt_another00000000"), "about another call"),
        (lambda: request(at=NOW - 301), "more than 300 seconds"),
        (lambda: request(at=NOW + 301), "more than 300 seconds"),
        (lambda: replace(request(), at=NOW + 1), "not signed by the auditor"),
        (lambda: replace(request(), signature=bytes(65)), "not signed by the auditor"),
        (lambda: replace(request(), auditor=PAYER.address), "not signed by the auditor"),
        (lambda: request(consent=None), "only its payer"),
        (lambda: request(consent=consent(node=STRANGER.address)), "another node's"),
        (lambda: request(consent=consent(STRANGER)), "another payer's"),
        (lambda: request(consent=replace(consent(), until=NOW + 9999)), "not signed by the call's"),
        (lambda: request(consent=replace(consent(), rate=1)), "not signed by the call's"),
        (lambda: request(consent=replace(consent(), signature=bytes(65))), "not signed by the"),
        (lambda: request(consent=consent(auditor=STRANGER.address)), "for another auditor"),
        (lambda: request(consent=consent(until=NOW)), "has run out"),
        (lambda: request(consent=consent(receipt="rcpt_another00000000")), "about another call"),
        (lambda: request(consent=consent(rate=9_999)), "the beacon did not choose"),
        (lambda: request(consent=consent(rate=0)), "the beacon did not choose"),
    ],
)
def test_who_has_no_right_is_told_why(asked: Callable[[], DisclosureRequest], reason: str) -> None:
    with pytest.raises(NotAllowedError, match=reason):
        check(asked())


def test_a_signature_of_another_log_counts_for_nothing() -> None:
    elsewhere = disclosure_domain(CHAIN_ID, STRANGER.address)
    asked = DisclosureRequest.ask(
        PAYER, elsewhere, node=NODE.address, receipt=SIGNED.receipt.id, at=NOW
    )
    with pytest.raises(NotAllowedError, match="not signed by the auditor"):
        check(asked)


@pytest.mark.parametrize("kind", [Consent, DisclosureRequest, Disclosed, Refusal])
def test_a_field_more_a_field_less_and_huge_numbers_are_refused(kind: Any) -> None:
    good = {
        Consent: consent,
        DisclosureRequest: request,
        Disclosed: lambda: Disclosed(SIGNED.receipt.id, REQUEST, SALTS, (1, 2)),
        Refusal: lambda: Refusal.sign(NODE, ASKING, request(), why="not kept", at=NOW),
    }[kind]().to_json()
    assert kind.from_json(json.loads(json.dumps(good))).to_json() == good
    for key in good:
        with pytest.raises(FormatError):
            kind.from_json({k: v for k, v in good.items() if k != key})
        with pytest.raises(FormatError):
            kind.from_json({**good, key: 2**53})
    with pytest.raises(FormatError):
        kind.from_json({**good, "more": "1"})


def test_a_consent_to_more_than_every_call_and_two_consents_are_refused() -> None:
    with pytest.raises(FormatError, match="10001 is not between 0 and 10000"):
        consent(rate=10_001)
    two = {**request().to_json(), "consents": [consent().to_json()] * 2}
    with pytest.raises(FormatError, match="at most 1"):
        DisclosureRequest.from_json(two)


@pytest.mark.parametrize(
    "wrong",
    [
        {"request": "0x0"},
        {"request": "0xAB"},
        {"request": "ab"},
        {"outputIds": [-1]},
        {"outputIds": [2**32]},
        {"outputIds": [True]},
        {"outputIds": ["1"]},
        {"outputIds": [1] * (MAX_IDS + 1)},
        {"outputIds": {}},
    ],
)
def test_what_a_node_discloses_must_have_its_form(wrong: dict[str, Any]) -> None:
    good = Disclosed(SIGNED.receipt.id, REQUEST, SALTS, (1, 2)).to_json()
    with pytest.raises(FormatError):
        Disclosed.from_json({**good, **wrong})


def test_a_refusal_that_the_node_did_not_sign_is_shown() -> None:
    refusal = Refusal.sign(NODE, ASKING, request(), why="not kept", at=NOW)
    refusal.check(NODE.address, ASKING)
    for wrong in (
        replace(refusal, at=NOW + 1),
        replace(refusal, node=STRANGER.address),
        Refusal.sign(STRANGER, ASKING, request(), why="not kept", at=NOW),
    ):
        with pytest.raises(AuditError, match="did not sign") as caught:
            wrong.check(NODE.address, ASKING)
        assert caught.value.evidence["refusal"] == wrong.to_json()


@pytest.mark.parametrize("signature", ["", "0x0", "0xAB", "0x" + "00" * 1025, 65])
def test_what_no_wallet_can_have_signed_is_refused_as_such(signature: object) -> None:
    with pytest.raises(FormatError, match="signature"):
        Consent.from_json({**consent().to_json(), "signature": signature})


def test_a_contract_is_asked_only_when_nothing_else_is_wrong() -> None:
    asked: list[tuple[str, bytes, bytes]] = []

    def confirms(payer: str, digest: bytes, signature: bytes) -> bool:
        asked.append((payer, digest, signature))
        return True

    def see(given: Consent, chosen: bool = True) -> None:
        check_request(
            request(STRANGER, consent=given),
            SIGNED.receipt,
            ASKING,
            now=NOW,
            chooses=lambda _seq, _rate: chosen,
            confirms=confirms,
        )

    theirs = replace(consent(rate=50), auditor=STRANGER.address, signature=b"by a passkey")
    for wrong in (
        replace(theirs, until=NOW),
        replace(theirs, payer=NODE.address),
        replace(theirs, auditor=NODE.address),
        replace(theirs, receipt="rcpt_9999999999999999"),
    ):
        with pytest.raises(NotAllowedError):
            see(wrong)
    assert asked == []
    see(theirs)
    assert asked == [(PAYER.address, theirs.digest(ASKING), b"by a passkey")]
    with pytest.raises(NotAllowedError, match="beacon"):
        see(theirs, chosen=False)


def test_the_beacon_is_not_asked_for_whom_no_payer_let() -> None:
    asked: list[int] = []

    def chooses(seq: int, rate: int) -> bool:
        asked.append(seq)
        return True

    forged = replace(consent(rate=50), signature=bytes(65))
    with pytest.raises(NotAllowedError, match="not signed by the call's payer"):
        check(request(consent=forged), chooses)
    assert asked == []


def test_a_payer_and_whom_it_allows_may_see_a_call() -> None:
    check(request(PAYER))
    check(request())
    check(request(consent=consent(receipt=SIGNED.receipt.id, rate=0)))
    check(request(STRANGER, consent=Consent.give(PAYER, ASKING, node=NODE.address, until=NOW + 1)))


def test_the_beacon_is_asked_about_this_entry_at_the_consents_rate() -> None:
    asked: list[tuple[int, int]] = []

    def chooses(seq: int, rate: int) -> bool:
        asked.append((seq, rate))
        return True

    check(request(consent=consent(rate=50)), chooses)
    assert asked == [(5, 50)]
