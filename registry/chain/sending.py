"""Transactions: estimate, sign, send once, wait for the outcome and say which it was.

Whoever sends may hold somebody's money until it is known what happened. Once the signed bytes have
left, only the chain's receipt or a refusal that no client gives after taking a transaction says
that nothing moved; any other answer leaves the outcome unknown.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import Any, Final

from eth_account import Account
from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3Exception, Web3RPCError

from registry.chain.block import Log, TxReceipt
from registry.chain.edge import edge, rpc_message
from registry.errors import ChainError, TransactionFailedError, TransactionUnknownError
from registry.signing.signer import Signer

# State may change between the estimate and the block: a fifth more than estimated.
_GAS_MARGIN: Final = (6, 5)
# Between polls for a receipt: Anvil mines at once, public chains take seconds.
_POLL_FIRST_S: Final = 0.005
_POLL_MOST_S: Final = 0.5
# A key may be used by another process too: a nonce it took is fetched again this often.
_NONCE_TRIES: Final = 5
_NONCE_TAKEN: Final = ("nonce too low", "replacement transaction underpriced")
# How clients say that these very bytes are in their pool: geth, Nethermind, Anvil, Erigon.
_POOLED: Final = ("already known", "alreadyknown", "already imported", "existing tx with same hash")
# What clients say of a transaction that they checked and did not take. "Underpriced" and a full
# pool are not among them: some clients keep such a transaction, or another node behind the same
# address does.
_REFUSED: Final = (
    "insufficient funds",
    "insufficientfunds",
    "upfront cost exceeds account balance",
    "intrinsic gas too low",
    "intrinsic gas too high",
    "intrinsic gas exceeds gas limit",
    "exceeds block gas limit",
    "transaction gas limit too high",
    "exceeds the configured cap",
    "max fee per gas less than block base fee",
    "max priority fee per gas higher than max fee per gas",
    "max initcode size exceeded",
    "oversized data",
    "invalid sender",
    "invalid chain id",
)
# What web3 raises when the answer to a sent transaction has the wrong shape.
_BAD_ANSWER: Final = (ChainError, Web3Exception, ValueError, TypeError, LookupError, AttributeError)
# Two threads with one key must not take the same nonce, whichever connection they use.
_nonce_locks: Final[defaultdict[str, threading.Lock]] = defaultdict(threading.Lock)


class Outbox:
    """Sends for one chain. `receipt_timeout_s` bounds the wait for a transaction to be mined."""

    def __init__(self, web3: Web3, host: str, *, receipt_timeout_s: float) -> None:
        self._web3: Final = web3
        self._host: Final = host
        self._receipt_timeout_s: Final = receipt_timeout_s

    def send(
        self,
        signer: Signer,
        *,
        chain_id: int,
        to: str | None,
        data: str,
        gas: int | None,
        doing: str,
    ) -> TxReceipt:
        """Send one transaction and wait; without `gas` it is simulated first and refused early.

        Raises `TransactionFailedError` (nothing happened, or it was mined and reverted),
        `TransactionUnknownError` (sent, outcome unknown) or another `ChainError` (not sent).
        """
        call: Any = {"from": signer.address, "data": data, "value": 0}
        if to is not None:
            call["to"] = to
        with edge(self._host, doing):
            limit = gas or self._web3.eth.estimate_gas(call) * _GAS_MARGIN[0] // _GAS_MARGIN[1]
            tip = self._web3.eth.max_priority_fee
            base_fee = self._web3.eth.get_block("latest")["baseFeePerGas"]
        fields = {
            "type": 2,
            "chainId": chain_id,
            "gas": limit,
            "maxPriorityFeePerGas": tip,
            "maxFeePerGas": 2 * base_fee + tip,  # six full blocks in a row double the base fee
            **{key: value for key, value in call.items() if key != "from"},
        }
        return self._wait(self._submit(signer, fields, doing), call, doing)

    def receipt(self, tx_hash: bytes, *, doing: str = "the transaction") -> TxReceipt | None:
        """Return the receipt of a mined transaction, or None while it is not mined.

        Raises `TransactionFailedError` when it was mined and reverted.
        """
        with edge(self._host, doing):
            try:
                raw: Any = self._web3.eth.get_transaction_receipt(tx_hash)  # type: ignore[arg-type]  # bytes are as good as HexBytes
            except TransactionNotFound:
                return None
            receipt = _receipt(raw)
            if raw["status"] == 1:
                return receipt
        raise TransactionFailedError(
            f"{doing} was mined in {receipt.text} and reverted", reason="reverted"
        )

    def _submit(self, signer: Signer, fields: dict[str, Any], doing: str) -> bytes:
        with _nonce_locks[signer.address]:
            for _ in range(_NONCE_TRIES):
                with edge(self._host, doing):
                    nonce = self._web3.eth.get_transaction_count(signer.address, "pending")  # type: ignore[arg-type]  # a checksum address
                signed = Account.sign_transaction({**fields, "nonce": nonce}, signer.secret())
                tx_hash = bytes(signed.hash)
                if self._hand_over(signed.raw_transaction, tx_hash, doing):
                    return tx_hash
        raise TransactionFailedError(
            f"{doing}: another program keeps taking the nonces of {signer.address}",
            reason="nonce taken",
            hint="use one key in one program at a time",
        )

    def _hand_over(self, raw: bytes, tx_hash: bytes, doing: str) -> bool:
        """Send signed bytes; False when another transaction has their nonce."""
        try:
            self._web3.eth.send_raw_transaction(raw)
        except Web3RPCError as error:
            text = rpc_message(error)
            if _says(text, _POOLED):
                return True
            if _says(text, _NONCE_TAKEN):
                return self._is_known(tx_hash, doing)
            if _says(text, _REFUSED):
                raise TransactionFailedError(
                    f"{doing} was not accepted: {text}", reason=text, hint=_hint(text)
                ) from error
            raise _unknown(doing, tx_hash, text) from error
        except _BAD_ANSWER as error:
            raise _unknown(doing, tx_hash) from error
        return True

    def _is_known(self, tx_hash: bytes, doing: str) -> bool:
        # An endpoint that sends twice is told by its second node that the first has the nonce.
        try:
            with edge(self._host, doing):
                try:
                    self._web3.eth.get_transaction(tx_hash)  # type: ignore[arg-type]  # bytes are as good as HexBytes
                except TransactionNotFound:
                    return False
                return True
        except ChainError as error:
            raise _unknown(doing, tx_hash) from error

    def _wait(self, tx_hash: bytes, call: Any, doing: str) -> TxReceipt:
        deadline = time.monotonic() + self._receipt_timeout_s
        pause = _POLL_FIRST_S
        while True:
            try:
                receipt = self.receipt(tx_hash, doing=doing)
            except TransactionFailedError:
                self._explain(call, doing)
                raise
            except ChainError:
                receipt = None  # it was sent: what the endpoint cannot answer decides nothing
            if receipt is not None:
                return receipt
            if time.monotonic() > deadline:
                raise _unknown(doing, tx_hash)
            time.sleep(pause)
            pause = min(2 * pause, _POLL_MOST_S)

    def _explain(self, call: Any, doing: str) -> None:
        # A mined failure carries no reason; asking again usually reverts in the same way.
        try:
            with edge(self._host, doing):
                self._web3.eth.call(call)
        except TransactionFailedError:
            raise
        except ChainError:
            return  # that it was mined and reverted is known without the reason


def to_log(raw: Any) -> Log:
    """Turn web3's log into ours."""
    return Log(
        address=str(raw["address"]),
        topics=tuple(bytes(topic) for topic in raw["topics"]),
        data=bytes(raw["data"]),
        block=int(raw["blockNumber"]),
        tx_hash=bytes(raw["transactionHash"]),
        index=int(raw["logIndex"]),
    )


def _receipt(raw: Any) -> TxReceipt:
    return TxReceipt(
        hash=bytes(raw["transactionHash"]),
        block=int(raw["blockNumber"]),
        block_hash=bytes(raw["blockHash"]),
        gas_used=int(raw["gasUsed"]),
        logs=tuple(map(to_log, raw["logs"])),
        contract=raw["contractAddress"],
    )


def _says(text: str, phrases: tuple[str, ...]) -> bool:
    said = text.lower()
    return any(phrase in said for phrase in phrases)


def _unknown(doing: str, tx_hash: bytes, answer: str = "") -> TransactionUnknownError:
    told = f"; the endpoint answered: {answer}" if answer else ""
    return TransactionUnknownError(
        f"{doing} was sent as 0x{tx_hash.hex()} and its outcome is not known yet{told}",
        tx_hash=tx_hash,
        hint="look the transaction up before sending it again",
    )


def _hint(text: str) -> str:
    return "send ether for gas to this address" if "insufficient funds" in text.lower() else ""
