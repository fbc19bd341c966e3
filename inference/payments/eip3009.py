"""EIP-3009: a payer signs that a token may move an amount once, within a time.

Source: EIP-3009 (transferWithAuthorization, receiveWithAuthorization). The two differ in their
type hash only, so that an authorisation meant for a contract cannot be used by anybody else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from inference.errors import PaymentRefusedError
from inference.payments.wallet import Approval, WalletSignatureError
from registry.errors import SignatureError
from registry.signing.signer import recover
from registry.signing.typed_data import Domain, Struct

_FIELDS: Final = {
    "from": "address",
    "to": "address",
    "value": "uint256",
    "validAfter": "uint256",
    "validBefore": "uint256",
    "nonce": "bytes32",
}
TRANSFER: Final = Struct("TransferWithAuthorization", _FIELDS)
RECEIVE: Final = Struct("ReceiveWithAuthorization", _FIELDS)
# An authorisation must outlive the block that uses it: seconds, as x402's verifiers demand.
MARGIN_S: Final = 6


@dataclass(frozen=True)
class Token:
    """A token and its EIP-712 domain (`name`, `version`)."""

    chain_id: int
    address: str
    name: str
    version: str

    @cached_property
    def separator(self) -> bytes:
        """The token's EIP-712 domain separator."""
        return Domain(self.name, self.version, self.chain_id, self.address).separator()


@dataclass(frozen=True)
class Authorization:
    """One signed permission: `value` of a token from `payer` to `to`; times in unix seconds."""

    payer: str
    to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: bytes
    signature: bytes

    def digest(self, kind: Struct, token: Token) -> bytes:
        """Return the 32 bytes the payer signed. `kind` is `TRANSFER` or `RECEIVE`."""
        return kind.digest(
            token.separator,
            {
                "from": self.payer,
                "to": self.to,
                "value": self.value,
                "validAfter": self.valid_after,
                "validBefore": self.valid_before,
                "nonce": self.nonce,
            },
        )

    def check(
        self,
        kind: Struct,
        token: Token,
        *,
        now: int,
        refuse: Callable[[str, str], PaymentRefusedError],
        approval: Approval | None = None,
    ) -> None:
        """Check the times and the signature, in the order of x402's verifiers.

        `refuse` makes the error from "valid_before", "valid_after" or "signature" and a sentence.
        Last of all raises `WalletSignatureError` for a signature that is not the payer's key's;
        then the payer's contract may be asked for its `approval`.
        """
        if self.valid_before < now + MARGIN_S:
            raise refuse(
                "valid_before", f"the authorisation ends at {self.valid_before}, it is {now} now"
            )
        if self.valid_after > now:
            raise refuse(
                "valid_after", f"the authorisation begins at {self.valid_after}, it is {now} now"
            )
        digest = self.digest(kind, token)
        if approval is not None and (approval.payer, approval.digest) == (self.payer, digest):
            return
        try:
            signed_by = recover(digest, self.signature)
            refusal = refuse("signature", f"the authorisation is signed by {signed_by}")
        except SignatureError as error:
            signed_by, refusal = "", refuse("signature", error.message)
        if signed_by != self.payer:
            raise WalletSignatureError(refusal, self.payer, digest, self.signature)
