"""Transactions: estimate, sign, send, wait for the outcome and say which it was.

A transaction that is not mined in time is signed again under its nonce with higher fees; it has
an outcome only when one of its versions is mined. Until then, and whatever the endpoint says, its
outcome is unknown: whoever sends may hold somebody's money. `nonces` keeps the line of what waits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3Exception, Web3RPCError

from registry.chain.block import Log, TxReceipt
from registry.chain.edge import edge, rpc_message
from registry.chain.fees import FeePolicy, Market
from registry.chain.nonces import MemoryBook, NonceBook
from registry.chain.signed import Sent
from registry.chain.verdict import verdict
from registry.errors import (
    ChainError,
    TransactionFailedError,
    TransactionRefusedError,
    TransactionUnknownError,
    WeightproofError,
)
from registry.signing.signer import Signer

# State may change between the estimate and the block: a fifth more than estimated.
_GAS_MARGIN: Final = (6, 5)
# What a transfer of nothing takes: it fills a nonce that no transaction has any more.
_EMPTY_GAS: Final = 21_000
# Between polls for a receipt: Anvil mines at once, public chains take seconds.
_POLL_FIRST_S: Final = 0.005
_POLL_MOST_S: Final = 0.5
# A key may be used by another program too: a nonce it took is fetched again this often.
_NONCE_TRIES: Final = 5
# What web3 raises when the answer to a sent transaction has the wrong shape.
_BAD_ANSWER: Final = (ChainError, Web3Exception, ValueError, TypeError, LookupError, AttributeError)


class Outbox:
    """Sends for one chain. `receipt_timeout_s` bounds the wait for a transaction to be mined."""

    def __init__(
        self, web3: Web3, host: str, *, receipt_timeout_s: float, policy: FeePolicy
    ) -> None:
        self._web3: Final = web3
        self._host: Final = host
        self._receipt_timeout_s: Final = receipt_timeout_s
        self._policy: Final = policy
        self.book: NonceBook = MemoryBook()

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
        limit = gas or self.estimate(signer, to=to, data=data, doing=doing)
        fields = {"chainId": chain_id, "gas": limit, **call}
        del fields["from"]
        return self._wait(signer, self._submit(signer, fields, doing), call)

    def estimate(self, signer: Signer, *, to: str | None, data: str, doing: str) -> int:
        """Return the gas limit to send with. Raises `TransactionFailedError` if it would revert."""
        call: Any = {"from": signer.address, "data": data, "value": 0}
        if to is not None:
            call["to"] = to
        with edge(self._host, doing):
            return self._web3.eth.estimate_gas(call) * _GAS_MARGIN[0] // _GAS_MARGIN[1]

    def market(self) -> Market:
        """Return what gas costs now."""
        with edge(self._host, "the price of gas"):
            tip = self._web3.eth.max_priority_fee
            return Market(self._web3.eth.get_block("latest")["baseFeePerGas"], tip)

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

    def follow(self, signer: Signer) -> None:
        """Decide what waits in the key's line, as far as the chain says, and push what still waits.

        A nonce that the chain counts as used, in a block that is final, by none of its versions,
        is lost to another program.
        """
        line: dict[int, list[Sent]] = {}
        for sent in self.book.line(signer.address):
            line.setdefault(sent.nonce, []).append(sent)
        if not line:
            return
        final = self._count(signer, "finalized")
        for nonce, versions in line.items():
            # What the endpoint cannot answer now is asked again the next time.
            with suppress(TransactionFailedError, ChainError):
                if self._outcome(versions, surely=nonce < final) is None and nonce < final:
                    self.book.end(versions[-1], "lost")
        self.push(signer)

    def push(self, signer: Signer) -> None:
        """Bring the key's line forward: offer it again, and more for its first if that is due."""
        with self.book.exclusive(signer.address):
            first = self._count(signer, "latest")
            line = {n: sent for n, sent in self._newest(signer).items() if n >= first}
            if first in line:
                line[first] = self._raised(signer, line[first])
            elif line and self._count(signer, "pending") == first:
                line[first] = self._filled(signer, first, min(line.items())[1])
            for _, sent in sorted(line.items()):
                self._offer(sent)

    def _submit(self, signer: Signer, fields: dict[str, Any], doing: str) -> Sent:
        with self.book.exclusive(signer.address):
            fees = self._policy.first(self.market())
            for _ in range(_NONCE_TRIES):
                sent = Sent.sign(signer, {**fields, "nonce": self._free_nonce(signer)}, fees, doing)
                self.book.add(sent)
                if self._hand_over(sent):
                    return sent
                self.book.forget(sent)
        raise TransactionRefusedError(
            f"{doing}: another program keeps taking the nonces of {signer.address}",
            reason="nonce taken",
            hint="use one key in one program at a time",
        )

    def _free_nonce(self, signer: Signer) -> int:
        nonce, line = self._count(signer, "pending"), self._newest(signer)
        while nonce in line:
            # It fell out of the endpoint's pool: nothing behind it could be mined.
            self._offer(line[nonce])
            nonce += 1
        return nonce

    def _hand_over(self, sent: Sent) -> bool:
        """Send signed bytes for the first time; False when their nonce is another's."""
        try:
            self._web3.eth.send_raw_transaction(sent.raw)
        except Web3RPCError as error:
            text = rpc_message(error)
            found = verdict(text)
            if found == "taken":
                return self._is_known(sent)
            if found == "refused":
                self.book.forget(sent)
                raise TransactionRefusedError(
                    f"{sent.doing} was not accepted: {text}", reason=text, hint=_hint(text)
                ) from error
            if found == "open":
                raise _unknown(sent, text) from error
        except _BAD_ANSWER as error:
            raise _unknown(sent) from error
        return True

    def _offer(self, sent: Sent) -> None:
        """Send signed bytes again; what is said of them decides nothing, only the chain does."""
        with suppress(*_BAD_ANSWER):
            self._web3.eth.send_raw_transaction(sent.raw)

    def _is_known(self, sent: Sent) -> bool:
        # An endpoint that sends twice is told by its second node that the first has the nonce.
        try:
            with edge(self._host, sent.doing):
                try:
                    self._web3.eth.get_transaction(sent.hash)  # type: ignore[arg-type]  # bytes are as good as HexBytes
                except TransactionNotFound:
                    return False
                return True
        except ChainError as error:
            raise _unknown(sent) from error

    def _raised(self, signer: Signer, sent: Sent) -> Sent:
        if time.time() - sent.sent_at < self._policy.replace_after_s:
            return sent
        fees = self._policy.raised(sent.fees, self.market())
        if fees is None:
            return sent
        more = Sent.sign(signer, sent.fields(), fees, sent.doing)
        self.book.add(more)
        return more

    def _filled(self, signer: Signer, nonce: int, behind: Sent) -> Sent:
        """Sign a transfer of nothing for a nonce that others left and that holds up our line."""
        chain_id = behind.fields()["chainId"]
        to = {"to": signer.address, "value": 0, "data": "0x", "gas": _EMPTY_GAS}
        fields = {"chainId": chain_id, "nonce": nonce, **to}
        filler = Sent.sign(signer, fields, self._policy.first(self.market()), "fill")
        self.book.add(filler)
        return filler

    def _wait(self, signer: Signer, sent: Sent, call: Any) -> TxReceipt:
        known = [sent]
        deadline = time.monotonic() + self._receipt_timeout_s
        push_at = time.monotonic() + self._policy.replace_after_s
        pause = _POLL_FIRST_S
        while True:
            try:
                receipt = self._outcome(known)
            except TransactionFailedError:
                self._explain(call, sent.doing)
                raise
            if receipt is not None:
                return receipt
            if time.monotonic() > deadline:
                raise _unknown(known[-1])
            if time.monotonic() >= push_at:
                with suppress(WeightproofError):  # also a lock or a disk of the book's
                    self.push(signer)
                push_at = time.monotonic() + self._policy.replace_after_s
            time.sleep(pause)
            pause = min(2 * pause, _POLL_MOST_S)
            # Whoever else follows this line may have raised it.
            line = self.book.line(signer.address)
            known += [v for v in line if v.nonce == sent.nonce and v not in known]

    def _outcome(self, versions: Sequence[Sent], *, surely: bool = False) -> TxReceipt | None:
        """Return the receipt of the version that was mined, and keep that it was.

        Raises `TransactionFailedError` when it reverted. What the endpoint cannot answer decides
        nothing: it counts as not mined yet, or is raised as `ChainError` to who must know `surely`.
        """
        for sent in reversed(versions):
            try:
                receipt = self.receipt(sent.hash, doing=sent.doing)
            except TransactionFailedError:
                self.book.end(sent, "failed")
                raise
            except ChainError:
                if surely:
                    raise
                continue
            if receipt is not None:
                with suppress(WeightproofError):  # mined it is; `follow` writes it another time
                    self.book.end(sent, "mined")
                return receipt
        return None

    def _newest(self, signer: Signer) -> dict[int, Sent]:
        return {sent.nonce: sent for sent in self.book.line(signer.address)}

    def _count(self, signer: Signer, block: str) -> int:
        with edge(self._host, "eth_getTransactionCount"):
            return int(self._web3.eth.get_transaction_count(signer.address, block))  # type: ignore[arg-type]  # a checksum address, and its literal names

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


def _unknown(sent: Sent, answer: str = "") -> TransactionUnknownError:
    told = f"; the endpoint answered: {answer}" if answer else ""
    return TransactionUnknownError(
        f"{sent.doing} was sent as 0x{sent.hash.hex()} and its outcome is not known yet{told}",
        tx_hash=sent.hash,
        hint="look the transaction up before sending it again",
    )


def _hint(text: str) -> str:
    return "send ether for gas to this address" if "insufficient funds" in text.lower() else ""
