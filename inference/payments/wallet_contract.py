"""Payers that are contracts, on chain: ask them, rehearse and send what their code takes part in.

Their code is the payer's and may do anything, so all of it runs within a bound of gas: asked, it
costs nothing; sent, no more than the bound. The bound holds for keys too, for an account with a key
may have code since EIP-7702, which tokens then ask. Nothing is ever called with value, and nothing
but a factory that the operator named is called by us at all: what a signature calls its factory
could as well be a token in which we hold money.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from eth_abi.abi import encode
from eth_hash.auto import keccak

from inference.errors import PaymentRefusedError
from inference.payments.wallet import (
    MOST_GAS,
    Approval,
    Deployment,
    WalletSignature,
    WalletSignatureError,
    make_approval,
)
from registry.chain import calldata
from registry.chain.block import TxReceipt
from registry.chain.connection import Chain
from registry.errors import (
    ChainUnreachableError,
    TransactionFailedError,
    TransactionUnknownError,
)
from registry.signing.signer import Signer

_IS_VALID: Final = keccak(b"isValidSignature(bytes32,bytes)")[:4]
_VALID: Final = _IS_VALID + bytes(28)
_NOT_DEPLOYED: Final = "smart_wallet_deployment_failed"


@dataclass(frozen=True)
class Wallets:
    """Payers that are contracts, taken on the operator's terms.

    `gas` bounds each transaction that may run a payer's code; 0 takes no payers that are contracts,
    and bounds the others by `MOST_GAS`. `factories` may be called to make a payer's wallet before
    its payment is settled; the operator pays for it.
    """

    chain: Chain
    gas: int = 0
    factories: frozenset[str] = frozenset()

    @property
    def bound(self) -> int:
        """The most gas one transaction may take."""
        return self.gas or MOST_GAS

    def approve(self, question: WalletSignatureError) -> Approval:
        """Ask the payer's contract about a signature. Raises the question when it is refused."""
        signed = WalletSignature.parse(question.signature)
        if not self.gas or signed is None:
            raise question
        if self.chain.code(question.payer):
            signed = replace(signed, deployment=None)
        elif signed.deployment is None:
            raise question
        elif signed.deployment.factory not in self.factories:
            raise PaymentRefusedError(
                "eip6492_factory_not_allowed",
                f"wallets of {signed.deployment.factory} are not made here",
                hint="deploy the wallet first",
            )
        asked = _IS_VALID + encode(["bytes32", "bytes"], [question.digest, signed.signature])
        try:
            answer = self._ask(question.payer, asked, "isValidSignature", signed.deployment)
        except TransactionFailedError as error:
            raise question from error
        if answer[:32] != _VALID:
            raise question
        return make_approval(question, signed)

    def confirms(self, payer: str, digest: bytes, signature: bytes) -> bool:
        """Say whether `payer` is a contract here that takes `signature` for `digest`, by now.

        For what is no payment: a wallet that is not there yet has signed nothing.
        """
        if not self.chain.code(payer):
            return False
        refusal = PaymentRefusedError("invalid_signature", "not signed by this wallet")
        try:
            self.approve(WalletSignatureError(refusal, payer, digest, signature))
        except PaymentRefusedError:
            return False
        return True

    def try_out(self, function: calldata.Function, approval: Approval | None) -> None:
        """Try what is to be sent without sending it. Raises `TransactionFailedError`."""
        self._try(function, self._missing(approval))

    def send(
        self, signer: Signer, function: calldata.Function, approval: Approval | None
    ) -> TxReceipt:
        """Send it, after the wallet was made where it must be; raises what `Chain.send` raises."""
        missing = self._missing(approval)
        self._try(function, missing)
        if missing is not None:
            self._deploy(signer, missing)
        return self.chain.send(signer, function, gas=self.bound)

    def _missing(self, approval: Approval | None) -> Deployment | None:
        """Return how the payer's wallet is made, None when it is there."""
        if approval is None or approval.deployment is None or self.chain.code(approval.payer):
            return None
        return approval.deployment

    def _deploy(self, signer: Signer, missing: Deployment) -> None:
        try:
            self.chain.send_data(
                signer, missing.factory, missing.data, gas=self.bound, doing="make a wallet"
            )
        except TransactionFailedError as error:
            raise PaymentRefusedError(_NOT_DEPLOYED, error.message) from error
        except TransactionUnknownError as error:
            # The payment itself was not sent: it may be presented again.
            raise ChainUnreachableError(error.message) from error

    def _try(self, function: calldata.Function, missing: Deployment | None) -> None:
        data = bytes.fromhex(calldata.encode(function)[2:])
        self._ask(str(function.address), data, function.fn_name, missing)

    def _ask(self, target: str, data: bytes, doing: str, missing: Deployment | None) -> bytes:
        if missing is None:
            return self.chain.ask(target, f"0x{data.hex()}", None, doing, gas=self.bound)
        creation = self.chain.constructor("Rehearsal", missing.factory, missing.data, target, data)
        return self.chain.ask(None, calldata.encode(creation), None, doing, gas=2 * self.bound)
