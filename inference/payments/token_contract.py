"""The payment token on chain: an ERC-20 with EIP-3009. Every method waits for the chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from inference.errors import PaymentRefusedError
from inference.payments.eip3009 import Authorization, Token
from inference.payments.wallet import Approval
from inference.payments.wallet_contract import Wallets
from registry.chain import calldata
from registry.chain.block import TxReceipt
from registry.chain.connection import Chain
from registry.chain.event import Event
from registry.errors import TransactionFailedError, TransactionRefusedError
from registry.signing.signer import Signer

# Our artifact's ABI is the standard's: it serves every token with EIP-3009.
NAME: Final = "DevUSD"
_TRANSFER: Final = (
    "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,"
    "uint8,bytes32,bytes32)"
)
_TRANSFER_OF_WALLET: Final = (
    "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"
)
_EXACT: Final = "invalid_exact_evm_"
NONCE_USED: Final = _EXACT + "nonce_already_used"


class TokenContract:
    """One deployed token. Amounts are atomic units."""

    def __init__(self, chain: Chain, address: str, wallets: Wallets | None = None) -> None:
        self._chain: Final = chain
        self._wallets: Final = wallets or Wallets(chain)
        self.address: Final = address

    def token(self) -> Token:
        """Read the token's EIP-712 domain."""
        functions = self._chain.contract(NAME, self.address).functions
        name, version = self._chain.call(functions.name()), self._chain.call(functions.version())
        return Token(self._chain.chain_id, self.address, str(name), str(version))

    def balance_of(self, owner: str) -> int:
        """Return what `owner` holds."""
        functions = self._chain.contract(NAME, self.address).functions
        return int(self._chain.call(functions.balanceOf(owner)))

    def is_used(self, payer: str, nonce: bytes) -> bool:
        """Say whether an authorisation was used or cancelled; its 32-byte nonce names it."""
        functions = self._chain.contract(NAME, self.address).functions
        return bool(self._chain.call(functions.authorizationState(payer, nonce)))

    def settlement(self, payer: str, nonce: bytes, *, from_block: int = 0) -> bytes | None:
        """Return the hash of the transaction that used an authorisation, None when there is none.

        Unlike `is_used` it tells a payment from a cancellation, and names the transaction
        whoever sent it. `from_block` bounds the search.
        """
        used = self._used(payer, nonce, from_block)
        return used.tx_hash if used else None

    def outcome(
        self,
        payer: str,
        nonce: bytes,
        *,
        valid_before: int,
        from_block: int,
        pays: tuple[str, int] | None = None,
    ) -> bytes | None:
        """Return what became of an authorisation: the transaction that used it (32 bytes).

        Empty when it was not used and never can be: its time, in unix seconds, has passed on
        chain, or its nonce was used for another transfer than `pays`, to whom and how much. None
        while neither is certain.
        """
        # The time first: what that block does not have, no later one can add.
        now = self._chain.head().timestamp
        used = self._used(payer, nonce, from_block)
        if used is None:
            return b"" if now > valid_before else None
        if pays is None:
            return used.tx_hash
        receipt = self._chain.receipt(used.tx_hash)
        if receipt is None:
            return None
        wanted = {"from": payer, "to": pays[0], "value": pays[1]}
        return used.tx_hash if self._made(receipt, used, wanted) else b""

    def paid_by(self, authorization: Authorization, *, from_block: int) -> TxReceipt | None:
        """Return the transaction that made an authorised transfer, whoever sent it.

        None while none is seen that used the authorisation. Raises `PaymentRefusedError` when it
        was used for another transfer.
        """
        used = self._used(authorization.payer, authorization.nonce, from_block)
        receipt = self._chain.receipt(used.tx_hash) if used else None
        if used is None or receipt is None:
            return None
        if self._made(receipt, used, _transfer_of(authorization)):
            return receipt
        raise PaymentRefusedError(NONCE_USED, f"{receipt.text} used it for another transfer")

    def check(self, authorization: Authorization, approval: Approval | None = None) -> int:
        """Try a transfer without sending it; return a block at which it was not made yet.

        `approval` is that of a payer that is a contract. Raises `PaymentRefusedError` with x402's
        code.
        """
        try:
            before = self._chain.head().number
            self._wallets.try_out(self._transfer(authorization, approval), approval)
            return before
        except TransactionFailedError as error:
            raise self._why(authorization, error) from error

    def transfer(
        self, signer: Signer, authorization: Authorization, approval: Approval | None = None
    ) -> TxReceipt:
        """Send an authorised transfer and require its Transfer event; `signer` pays the gas.

        Raises `PaymentRefusedError` when the token refuses it; then nothing moved.
        """
        try:
            function = self._transfer(authorization, approval)
            receipt = self._wallets.send(signer, function, approval)
        except TransactionRefusedError:
            raise  # our own gas money or nonce is at fault, not the payment
        except TransactionFailedError as error:
            raise self._why(authorization, error) from error
        events = self._chain.events_in(receipt, NAME, self.address, "Transfer")
        if not any(dict(event.values) == _transfer_of(authorization) for event in events):
            raise PaymentRefusedError(
                _EXACT + "transfer_event_mismatch", f"{receipt.text} did not move the payment"
            )
        return receipt

    def _transfer(
        self, authorization: Authorization, approval: Approval | None
    ) -> calldata.Function:
        contract = self._chain.contract(NAME, self.address)
        arguments = _arguments(authorization)
        signature = authorization.signature
        if approval is not None:
            function = contract.get_function_by_signature(_TRANSFER_OF_WALLET)
            filled: calldata.Function = function(*arguments, signature)
            return filled
        # The (v, r, s) form: every EIP-3009 token has it, the bytes form only newer ones.
        parts = signature[64], signature[:32], signature[32:64]
        filled = contract.get_function_by_signature(_TRANSFER)(*arguments, *parts)
        return filled

    def _made(self, receipt: TxReceipt, used: Event, transfer: Mapping[str, object]) -> bool:
        # Only the log right after counts. One transaction may use several authorisations, and no
        # transfer in it may pay for two of them.
        events = self._chain.events_in(receipt, NAME, self.address, "Transfer")
        return any(e.index == used.index + 1 and dict(e.values) == transfer for e in events)

    def _used(self, payer: str, nonce: bytes, from_block: int) -> Event | None:
        events = self._chain.events(
            NAME,
            self.address,
            "AuthorizationUsed",
            where={"authorizer": payer, "nonce": nonce},
            from_block=from_block,
        )
        return events[0] if events else None

    def _why(self, authorization: Authorization, error: TransactionFailedError) -> Exception:
        if self.is_used(authorization.payer, authorization.nonce):
            return PaymentRefusedError(NONCE_USED, "this authorisation was used before")
        balance = self.balance_of(authorization.payer)
        if balance < authorization.value:
            return PaymentRefusedError(
                _EXACT + "insufficient_balance",
                f"{authorization.payer} has {balance}, the payment is {authorization.value}",
            )
        return PaymentRefusedError(_EXACT + "transaction_simulation_failed", error.message)


def _transfer_of(authorization: Authorization) -> dict[str, object]:
    return {"from": authorization.payer, "to": authorization.to, "value": authorization.value}


def _arguments(authorization: Authorization) -> tuple[object, ...]:
    return (
        authorization.payer,
        authorization.to,
        authorization.value,
        authorization.valid_after,
        authorization.valid_before,
        authorization.nonce,
    )
