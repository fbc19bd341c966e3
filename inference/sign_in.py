"""The x402 extension `sign-in-with-x`: a wallet shows who it is, and reads what is its own.

1. a request without a proof gets a challenge: a text with a fresh nonce, good for five minutes
2. the wallet signs the text and sends the proof in the header SIGN-IN-WITH-X
3. the proof is exactly a challenge of ours for this very address of this node, in its time
4. its signature is that of the wallet it names
5. its nonce is used up

The node remembers no challenge: a nonce is half random and half a code over what was handed out,
made with a key that follows from the node's. So any process with that key knows its own again.
Source: x402 v2, extension sign-in-with-x (CAIP-122; for EVM wallets EIP-4361 under EIP-191).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Connection, delete, insert
from sqlalchemy.exc import IntegrityError

from inference import schema
from inference.errors import MalformedPaymentError, PaymentRefusedError
from inference.payments.fields import Fields
from inference.payments.x402 import decode_header
from registry.errors import SignatureError
from registry.signing.message import message_digest
from registry.signing.signer import Signer, recover

NAME: Final = "sign-in-with-x"
HEADER: Final = "SIGN-IN-WITH-X"
# As x402 has it: a proof older than this is refused.
VALID_S: Final = 300
_VERSION: Final = "1"
_TYPE: Final = "eip191"
_STATEMENT: Final = "Read what this wallet bought here: answers, receipts and usage. Costs nothing."
# A proof takes about 1 KiB.
_MAX_BYTES: Final = 8 * 1024
_HALF: Final = 8  # bytes of a nonce that are random, and of those that are a code
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z", re.ASCII)
_NONCE: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_TEXTS: Final = ("domain", "uri", "version", "statement", "nonce", "issuedAt", "expirationTime")
_FIELDS: Final = {*_TEXTS, "address", "chainId", "type", "resources", "signature"}
_TABLE: Final = schema.sign_ins


@dataclass(frozen=True)
class Proof:
    """Who signed in: `payer` is a wallet's address. It counts once: `SignIn.use`."""

    payer: str
    nonce: str
    expires_at: int


@dataclass(frozen=True)
class SignIn:
    """Challenges and their proofs, for the node at `origin` (scheme, host, port) on one chain."""

    origin: str
    chain_id: int
    key: bytes

    @classmethod
    def of(cls, signer: Signer, public_url: str, chain_id: int) -> SignIn:
        """Return the sign-in of a node; its key follows from the node's and tells nothing of it."""
        parts = urlsplit(public_url)
        # Signatures are deterministic (RFC 6979), and nobody else can make this one.
        secret = signer.sign_digest(hashlib.sha256(b"weightproof/sign-in@1").digest())
        key = hashlib.sha256(secret).digest()
        return cls(f"{parts.scheme}://{parts.netloc}", chain_id, key)

    def challenge(self, uri: str, *, now: int) -> dict[str, Any]:
        """Return the extension as a 402 declares it, for the address `uri`; `now` in seconds."""
        nonce = self._nonce(secrets.token_bytes(_HALF), uri, now)
        return {
            "info": _info(self.origin, uri, nonce, now),
            "supportedChains": [{"chainId": f"eip155:{self.chain_id}", "type": _TYPE}],
            "schema": _SCHEMA,
        }

    def check(self, header: str, uri: str, *, now: int) -> Proof:
        """Check 3 and 4. Raises `PaymentRefusedError` with x402's code, or `MalformedPaymentError`.

        Whether the nonce was used before, `use` says.
        """
        told = decode_header(header, max_bytes=_MAX_BYTES)
        if odd := told.keys() - _FIELDS:
            raise MalformedPaymentError(f"{HEADER} has an unknown field {min(odd):.40}")
        fields = Fields(told, HEADER, MalformedPaymentError)
        payer, signature = fields.address("address"), fields.hex("signature")
        nonce, issued_at = fields.text("nonce"), _seconds(fields.text("issuedAt"))
        for name, code in (("domain", "domain_mismatch"), ("uri", "uri_mismatch")):
            if told.get(name) != _info(self.origin, uri, nonce, issued_at)[name]:
                raise _refuse(code, f"the {name} signed is not this address")
        if not issued_at <= now < issued_at + VALID_S:
            raise _refuse("expired", "the challenge has expired")
        if not self._is_ours(nonce, uri, issued_at):
            raise _refuse("nonce", "this challenge was not handed out here")
        if (told.get("chainId"), told.get("type")) != (f"eip155:{self.chain_id}", _TYPE):
            raise _refuse("chain_id", f"wallets sign in by {_TYPE} on eip155:{self.chain_id}")
        info = _info(self.origin, uri, nonce, issued_at)
        if any(told.get(name) != value for name, value in info.items()):
            raise _refuse("signature", "the text signed is not the challenge")
        text = _message(info, payer, self.chain_id)
        try:
            signed_by = recover(message_digest(text), signature)
        except SignatureError as error:
            raise _refuse("malformed_signature", error.message) from error
        if signed_by != payer:
            raise _refuse("signature", f"the challenge is signed by {signed_by}")
        return Proof(payer, nonce, issued_at + VALID_S)

    def use(self, tx: Connection, proof: Proof, *, now: int) -> None:
        """Use up a proof (5); those that expired are forgotten. Raises `PaymentRefusedError`."""
        tx.execute(delete(_TABLE).where(_TABLE.c.expires_at <= now))
        try:
            tx.execute(insert(_TABLE).values(nonce=proof.nonce, expires_at=proof.expires_at))
        except IntegrityError as error:
            raise _refuse("nonce", "this challenge was used before") from error

    def _nonce(self, fresh: bytes, uri: str, issued_at: int) -> str:
        code = hmac.digest(self.key, fresh + f"{issued_at} {uri}".encode(), "sha256")
        return (fresh + code[:_HALF]).hex()

    def _is_ours(self, nonce: str, uri: str, issued_at: int) -> bool:
        if not _NONCE.fullmatch(nonce):
            return False
        ours = self._nonce(bytes.fromhex(nonce)[:_HALF], uri, issued_at)
        return hmac.compare_digest(ours, nonce)


def _info(origin: str, uri: str, nonce: str, issued_at: int) -> dict[str, Any]:
    return {
        "domain": urlsplit(origin).netloc,
        "uri": uri,
        "version": _VERSION,
        "statement": _STATEMENT,
        "nonce": nonce,
        "issuedAt": _time(issued_at),
        "expirationTime": _time(issued_at + VALID_S),
        "resources": [uri],
    }


def _message(info: Mapping[str, Any], payer: str, chain_id: int) -> str:
    """Return the text of EIP-4361."""
    return "\n".join(
        (
            f"{info['domain']} wants you to sign in with your Ethereum account:",
            payer,
            "",
            info["statement"],
            "",
            f"URI: {info['uri']}",
            f"Version: {info['version']}",
            f"Chain ID: {chain_id}",
            f"Nonce: {info['nonce']}",
            f"Issued At: {info['issuedAt']}",
            f"Expiration Time: {info['expirationTime']}",
            "Resources:",
            *(f"- {resource}" for resource in info["resources"]),
        )
    )


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _seconds(text: str) -> int:
    """Read a time as we write it."""
    try:
        if _TIME.fullmatch(text):
            return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())
    except ValueError:
        pass
    raise _refuse("issued_at", "issuedAt is no time that was handed out here")


def _refuse(code: str, message: str) -> PaymentRefusedError:
    return PaymentRefusedError(f"invalid_siwx_{code}", message)


def _text(**more: str) -> dict[str, str]:
    return {"type": "string", **more}


_SCHEMA: Final = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        **{name: _text() for name in ("domain", "address", "statement", "version", "chainId")},
        **{name: _text() for name in ("type", "nonce", "signature")},
        **{name: _text(format="date-time") for name in ("issuedAt", "expirationTime")},
        "uri": _text(format="uri"),
        "resources": {"type": "array", "items": _text(format="uri")},
    },
    "required": [
        *("domain", "address", "uri", "version", "chainId", "type", "nonce", "issuedAt"),
        "signature",
    ],
}
