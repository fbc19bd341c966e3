"""Wallets that are contracts: how they sign (EIP-1271), and how before they exist (ERC-6492).

A key's signature is checked here and by anybody; a contract's only the chain can confirm. What it
confirmed is an `Approval`, which `wallet_contract` makes and verification takes for a signature.
Source: EIP-1271, ERC-6492.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address

from inference.errors import NodeError, PaymentRefusedError

# The end of an ERC-6492 signature, which no contract's own signature has.
_WRAPPED: Final = bytes.fromhex("6492" * 16)
# What settles for a key takes 65,000 to 120,000 gas; a wallet that checks a few keys takes 10,000
# more for each, one that checks a passkey in its own code up to 200,000.
MOST_GAS: Final = 350_000
_MINT: Final = object()


@dataclass(frozen=True)
class Deployment:
    """The call that makes a wallet: `data` for the contract `factory`."""

    factory: str
    data: bytes


@dataclass(frozen=True)
class WalletSignature:
    """A signature as the wallet itself takes it; `deployment` makes the wallet, if it says how."""

    signature: bytes
    deployment: Deployment | None = None

    @classmethod
    def parse(cls, signature: bytes) -> WalletSignature | None:
        """Unwrap a signature; None for a wrapping that cannot be read."""
        if signature[-32:] != _WRAPPED:
            return cls(signature)
        try:
            factory, data, inner = decode(["address", "bytes", "bytes"], signature[:-32])
        except (DecodingError, OverflowError, ValueError):
            return None
        return cls(inner, Deployment(to_checksum_address(factory), data))


class WalletSignatureError(PaymentRefusedError):
    """A signature that is not the payer's key's: refused, unless the payer is a contract.

    Every other check that needs no chain has passed.
    """

    def __init__(
        self, refusal: PaymentRefusedError, payer: str, digest: bytes, signature: bytes
    ) -> None:
        super().__init__(refusal.code, refusal.message)
        self.payer = payer
        self.digest = digest
        self.signature = signature


@dataclass(frozen=True)
class Approval:
    """The payer's contract confirmed `signature` of `digest`. Only `wallet_contract` makes one.

    `deployment` is None when the contract was there already; else it was rehearsed.
    """

    payer: str
    digest: bytes
    signature: bytes
    deployment: Deployment | None
    mint: object

    def __post_init__(self) -> None:
        if self.mint is not _MINT:
            raise NodeError("an Approval comes from the chain only")


def make_approval(question: WalletSignatureError, signed: WalletSignature) -> Approval:
    """Return the approval of a question; for `wallet_contract`, which has just asked it."""
    return Approval(question.payer, question.digest, signed.signature, signed.deployment, _MINT)
