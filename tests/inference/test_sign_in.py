"""A wallet signs in once, in time, here: every other proof is refused by x402's code."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from inference.database import Database
from inference.errors import MalformedPaymentError, PaymentRefusedError
from inference.sign_in import VALID_S, SignIn
from registry.signing.signer import Signer

NODE = Signer(b"\x22" * 32)
WALLET = Signer(b"\x11" * 32)
URL = "https://node.example:8402"
USAGE = URL + "/v1/usage"
NOW = 1_800_000_000
SIGN_IN = SignIn.of(NODE, URL, 31337)
# As EIP-4361 writes it: made here by hand, so that the two can disagree.
TEXT = """node.example:8402 wants you to sign in with your Ethereum account:
{address}

{statement}

URI: {uri}
Version: 1
Chain ID: 31337
Nonce: {nonce}
Issued At: 2027-01-15T08:00:00.000Z
Expiration Time: 2027-01-15T08:05:00.000Z
Resources:
- {uri}"""


def proof(
    signer: Signer = WALLET, uri: str = USAGE, sign_in: SignIn = SIGN_IN, **changes: Any
) -> str:
    """Sign a challenge; `changes` replace fields after signing, None takes them away."""
    declared = sign_in.challenge(uri, now=NOW)
    info = declared["info"]
    text = TEXT.format(address=signer.address, **info)
    signed = Account.from_key(signer.secret()).sign_message(encode_defunct(text=text))
    told = {
        **info,
        **declared["supportedChains"][0],
        "address": signer.address,
        "signature": "0x" + signed.signature.hex().removeprefix("0x"),
    } | changes
    return wrap({key: value for key, value in told.items() if value is not None})


def wrap(told: object) -> str:
    return base64.b64encode(json.dumps(told).encode()).decode()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url, chain_id=31337, channels="0xC", node="0xN") as database:
        yield database


@pytest.mark.parametrize(
    "header",
    [
        lambda: "",
        lambda: "not base64",
        lambda: wrap([]),
        lambda: wrap({}),
        lambda: proof(signature="0x12345"),
        lambda: proof(address="0x12"),
        lambda: proof(nonce=17),
        lambda: proof(admin="yes"),
        lambda: proof(notBefore="2027-01-15T08:00:00.000Z"),
        lambda: proof(statement="x" * 9000),
    ],
    ids=["empty", "text", "list", "object", "odd", "address", "number", "unknown", "time", "large"],
)
def test_what_is_no_proof_is_malformed(header: Callable[[], str]) -> None:
    with pytest.raises(MalformedPaymentError):
        SIGN_IN.check(header(), USAGE, now=NOW)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"domain": "node.example"}, "domain_mismatch"),
        ({"domain": "evil.example"}, "domain_mismatch"),
        ({"uri": "https://evil.example/v1/usage"}, "uri_mismatch"),
        ({"uri": URL + "/v1/receipts"}, "uri_mismatch"),
        ({"issuedAt": "2027-01-15T08:00:01.000Z"}, "expired"),
        ({"issuedAt": "2027-01-15T07:54:59.000Z"}, "expired"),
        ({"issuedAt": "2027-01-15T07:59:59.000Z"}, "nonce"),
        ({"issuedAt": "2027-01-15T08:00:00Z"}, "issued_at"),
        ({"issuedAt": "2027-13-15T08:00:00.000Z"}, "issued_at"),
        ({"nonce": "00" * 16}, "nonce"),
        ({"nonce": "short"}, "nonce"),
        ({"chainId": "eip155:1"}, "chain_id"),
        ({"chainId": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"}, "chain_id"),
        ({"type": "ed25519"}, "chain_id"),
        ({"statement": "Give me everything."}, "signature"),
        ({"statement": None}, "signature"),
        ({"version": "2"}, "signature"),
        ({"resources": []}, "signature"),
        ({"expirationTime": "2037-01-15T08:05:00.000Z"}, "signature"),
        ({"address": NODE.address}, "signature"),
        ({"signature": "0x" + "11" * 64}, "malformed_signature"),
    ],
)
def test_a_changed_proof_is_refused_by_the_code_of_what_was_changed(
    changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(PaymentRefusedError) as caught:
        SIGN_IN.check(proof(**changes), USAGE, now=NOW)
    assert caught.value.code == f"invalid_siwx_{code}"


def test_a_challenge_of_another_node_or_address_is_refused() -> None:
    other = SignIn.of(Signer(b"\x33" * 32), URL, 31337)
    for header in (proof(sign_in=other), proof(uri=URL + "/v1/receipts")):
        with pytest.raises(PaymentRefusedError):
            SIGN_IN.check(header, USAGE, now=NOW)


def test_a_proof_is_good_for_five_minutes() -> None:
    header = proof()
    assert SIGN_IN.check(header, USAGE, now=NOW + VALID_S - 1).payer == WALLET.address
    for late in (NOW + VALID_S, NOW - 1):
        with pytest.raises(PaymentRefusedError, match="expired"):
            SIGN_IN.check(header, USAGE, now=late)


def test_a_proof_is_used_once_also_by_another_process_with_the_same_key(database: Database) -> None:
    header = proof()
    database.write_now(lambda tx: SIGN_IN.use(tx, SIGN_IN.check(header, USAGE, now=NOW), now=NOW))
    again = SignIn.of(NODE, URL, 31337)
    with pytest.raises(PaymentRefusedError) as caught:
        database.write_now(
            lambda tx: again.use(tx, again.check(header, USAGE, now=NOW + 1), now=NOW + 1)
        )
    assert caught.value.code == "invalid_siwx_nonce"


def test_a_used_nonce_is_forgotten_when_its_time_has_passed(database: Database) -> None:
    first = SIGN_IN.check(proof(), USAGE, now=NOW)
    database.write_now(lambda tx: SIGN_IN.use(tx, first, now=NOW))
    second = SIGN_IN.check(proof(), USAGE, now=NOW)
    database.write_now(lambda tx: SIGN_IN.use(tx, second, now=NOW + VALID_S))
    count = "SELECT count(*) FROM sign_ins"
    assert database.read(lambda tx: tx.exec_driver_sql(count).scalar_one()) == 1


def test_no_two_challenges_are_the_same() -> None:
    nonces = {SIGN_IN.challenge(USAGE, now=NOW)["info"]["nonce"] for _ in range(100)}
    assert len(nonces) == 100
