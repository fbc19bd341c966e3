"""One signed version of a transaction, and how it is signed again with higher fees."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

from registry.chain.fees import Fees
from registry.signing.signer import Signer


@dataclass(frozen=True)
class Sent:
    """One signed version: `raw` are its bytes, `sent_at` Unix seconds, `doing` what it does."""

    sender: str
    nonce: int
    hash: bytes
    raw: bytes
    fees: Fees
    doing: str
    sent_at: float

    @classmethod
    def sign(cls, signer: Signer, fields: dict[str, Any], fees: Fees, doing: str) -> Sent:
        """Sign the fields of a transaction, its nonce among them, with these fees."""
        offer = {"type": 2, "maxPriorityFeePerGas": fees.tip, "maxFeePerGas": fees.most}
        signed = Account.sign_transaction({**fields, **offer}, signer.secret())
        raw, nonce = bytes(signed.raw_transaction), int(fields["nonce"])
        return cls(signer.address, nonce, bytes(signed.hash), raw, fees, doing, time.time())

    def fields(self) -> dict[str, Any]:
        """Return what was signed over, to be signed again."""
        signed = TypedTransaction.from_bytes(HexBytes(self.raw)).as_dict()
        return {key: value for key, value in signed.items() if key not in ("v", "r", "s")}
