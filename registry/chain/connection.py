"""A chain behind one RPC endpoint: read at a stated block, send and wait, every failure named.

Safe to use from several threads. Nothing here knows our contracts but by their artifacts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from eth_utils.address import is_checksum_address, to_checksum_address
from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractConstructor, ContractFunction
from web3.middleware import AttributeDictMiddleware
from web3.types import RPCEndpoint

from registry.chain import calldata
from registry.chain.artifact import load
from registry.chain.block import Block, BlockRef, TxReceipt
from registry.chain.edge import edge
from registry.chain.endpoint import Endpoint
from registry.chain.event import Event, read, topics
from registry.chain.fees import FeePolicy, Market
from registry.chain.nonces import NonceBook
from registry.chain.sending import Outbox, to_log
from registry.errors import ChainMismatchError, ChainUnreachableError
from registry.signing.signer import Signer, refuse_well_known

# Public endpoints refuse log questions over more blocks than this.
_LOG_PAGE_BLOCKS: Final = 10_000


class Chain:
    """One chain. `timeout_s` bounds each question, `receipt_timeout_s` each wait for mining.

    `fees` says what is paid for gas and when it is raised.

    With `chain_id` given, an endpoint that serves another chain is refused at the first use.
    """

    def __init__(
        self,
        rpc_url: str,
        timeout_s: float = 10.0,
        *,
        receipt_timeout_s: float = 120.0,
        chain_id: int | None = None,
        fees: FeePolicy | None = None,
    ) -> None:
        endpoint = Endpoint(rpc_url, timeout_s=timeout_s)
        self.host: Final = endpoint.host
        self._web3: Final = Web3(endpoint, middleware=[(AttributeDictMiddleware, "attrdict")])
        self._outbox: Final = Outbox(
            self._web3,
            endpoint.host,
            receipt_timeout_s=receipt_timeout_s,
            policy=fees or FeePolicy(),
        )
        self._expected: Final = chain_id
        self._chain_id: int | None = None
        self._has_code: Final[set[str]] = set()

    def __repr__(self) -> str:
        """Show the host only: the rest of an RPC address may be a secret."""
        return f"Chain({self.host})"

    @property
    def chain_id(self) -> int:
        """The chain's id. Raises `ChainMismatchError` when another one was expected."""
        if self._chain_id is None:
            with edge(self.host, "eth_chainId"):
                found = int(self._web3.eth.chain_id)
            if self._expected not in (None, found):
                raise ChainMismatchError(
                    f"the endpoint {self.host} serves chain {found}, not {self._expected}",
                    hint="set the RPC address and the chain id to the same chain",
                )
            self._chain_id = found
        return self._chain_id

    def head(self) -> Block:
        """Return the newest block."""
        return self._block("latest")

    def block(self, finality: int | str = "latest") -> Block:
        """Return the newest block that is final enough.

        `finality` is "latest", "safe", "finalized", or a number of confirmations (0 is the head).
        """
        if isinstance(finality, str):
            return self._block(finality)
        return self._block(max(0, self.head().number - finality))

    def block_at(self, number: int) -> Block:
        """Return block `number`."""
        return self._block(number)

    def code(self, address: str, block: BlockRef | None = None) -> bytes:
        """Return the code at `address`, empty where there is none."""
        where = _block_identifier(block)
        with edge(self.host, "eth_getCode"):
            return bytes(self._web3.eth.get_code(to_checksum_address(address), where))

    def storage(self, address: str, slot: int, block: BlockRef | None = None) -> bytes:
        """Return the 32 bytes that a contract keeps in `slot`."""
        where = _block_identifier(block)
        with edge(self.host, "eth_getStorageAt"):
            found = self._web3.eth.get_storage_at(to_checksum_address(address), slot, where)
            return bytes(found).rjust(32, b"\0")

    def balance(self, address: str) -> int:
        """Return the ether of `address`, in wei."""
        with edge(self.host, "eth_getBalance"):
            return int(self._web3.eth.get_balance(to_checksum_address(address)))

    def contract(self, name: str, address: str) -> Contract:
        """Return the contract `name` (an artifact) at `address`, which must have code."""
        if not is_checksum_address(address):
            raise ChainMismatchError(
                f"{address!r:.60} is not the checksum address of a {name} contract",
                hint="copy the address with its capitals, as the deployment printed it",
            )
        chain_id = self.chain_id
        if address not in self._has_code:
            if not self.code(address):
                raise ChainMismatchError(
                    f"there is no {name} contract at {address} on chain {chain_id}",
                    hint="check the address and the chain, or deploy the contracts first",
                )
            self._has_code.add(address)
        return self._web3.eth.contract(to_checksum_address(address), abi=load(name).abi)

    def constructor(self, name: str, *arguments: object) -> ContractConstructor:
        """Return what deploys the artifact `name`; hand it to `send`."""
        artifact = load(name)
        factory = self._web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
        return factory.constructor(*arguments)

    def call(self, function: ContractFunction, block: BlockRef | None = None) -> Any:
        """Ask a view function at `block`, or at the head; structs and lists come as tuples.

        Raises `TransactionFailedError` when it reverts, and `ChainMismatchError` when the block is
        gone or the contract does not speak its ABI.
        """
        raw = self.ask(function.address, calldata.encode(function), block, function.fn_name)
        return calldata.decode_outputs(self._web3, function, raw)

    def ask(
        self, to: str | None, data: str, block: BlockRef | None, doing: str, *, gas: int = 0
    ) -> bytes:
        """Return the bytes that the contract `to` answers to 0x… `data`; raises as `call` does.

        Without `to` the data creates a contract that is thrown away. `gas` bounds what runs.
        """
        question: Any = {"data": data} | ({"to": to} if to else {}) | ({"gas": gas} if gas else {})
        where = _block_identifier(block)
        with edge(self.host, doing):
            return bytes(self._web3.eth.call(question, block_identifier=where))

    def send(
        self,
        signer: Signer,
        action: ContractFunction | ContractConstructor,
        gas: int | None = None,
    ) -> TxReceipt:
        """Send a transaction and wait until it is mined; without `gas` it is simulated first.

        Raises `KeyRefusedError` for a published key off the devnet, `TransactionFailedError` with
        the decoded reason, `TransactionUnknownError` when it was sent and nobody answers.
        """
        refuse_well_known(signer.address, self.chain_id)
        to, doing = _target(action)
        return self._outbox.send(
            signer,
            chain_id=self.chain_id,
            to=to,
            data=calldata.encode(action),
            gas=gas,
            doing=doing,
        )

    def estimate(self, signer: Signer, action: ContractFunction | ContractConstructor) -> int:
        """Return the gas that `send` needs. Raises `TransactionFailedError` if it would revert."""
        to, doing = _target(action)
        return self._outbox.estimate(signer, to=to, data=calldata.encode(action), doing=doing)

    def market(self) -> Market:
        """Return what gas costs now, in wei."""
        return self._outbox.market()

    def gas_limit(self) -> int:
        """Return how much gas the newest block could hold."""
        with edge(self.host, "block latest"):
            return int(self._web3.eth.get_block("latest")["gasLimit"])

    def keep(self, book: NonceBook) -> None:
        """Keep in `book`, from now on, what is sent and not decided."""
        self._outbox.book = book

    def follow(self, signer: Signer) -> None:
        """Decide what waits in the book for `signer`, and push what still waits."""
        self._outbox.follow(signer)

    def send_data(self, signer: Signer, to: str, data: bytes, *, gas: int, doing: str) -> TxReceipt:
        """Send bytes to a contract of others, without value; `gas` bounds it. Raises as `send`."""
        refuse_well_known(signer.address, self.chain_id)
        return self._outbox.send(
            signer,
            chain_id=self.chain_id,
            to=to,
            data=f"0x{data.hex()}",
            gas=gas,
            doing=doing,
        )

    def receipt(self, tx_hash: bytes) -> TxReceipt | None:
        """Return the receipt of a transaction, or None while it is not mined.

        Raises `TransactionFailedError` when it was mined and reverted.
        """
        return self._outbox.receipt(tx_hash)

    def events(
        self,
        contract: str,
        address: str,
        name: str,
        *,
        where: Mapping[str, object] | None = None,
        from_block: int = 0,
        to_block: int | None = None,
    ) -> list[Event]:
        """Return the events `name` that the artifact `contract` at `address` emitted, in order.

        `where` filters by indexed values; blocks are inclusive, to the head unless given.
        """
        last = self.head().number if to_block is None else to_block
        wanted = topics(contract, name, where or {})
        found: list[Event] = []
        for first in range(from_block, last + 1, _LOG_PAGE_BLOCKS):
            question: Any = {
                "address": to_checksum_address(address),
                "topics": wanted,
                "fromBlock": first,
                "toBlock": min(first + _LOG_PAGE_BLOCKS - 1, last),
            }
            with edge(self.host, f"{contract}.{name}"):
                logs = [to_log(raw) for raw in self._web3.eth.get_logs(question)]
            found += filter(None, (read(contract, name, log) for log in logs))
        return sorted(found, key=lambda event: (event.block, event.index))

    def events_in(self, receipt: TxReceipt, contract: str, address: str, name: str) -> list[Event]:
        """Return the events `name` of the contract at `address` in one transaction."""
        logs = [log for log in receipt.logs if log.address == address]
        return list(filter(None, (read(contract, name, log) for log in logs)))

    def rpc(self, method: str, *parameters: object) -> Any:
        """Ask a method by name, such as Anvil's own; returns its raw result."""
        with edge(self.host, method):
            return self._web3.manager.request_blocking(RPCEndpoint(method), list(parameters))

    def _block(self, which: int | str) -> Block:
        with edge(self.host, f"block {which}"):
            raw: Any = self._web3.eth.get_block(which)  # type: ignore[arg-type]  # its literal names
            found = Block(int(raw["number"]), bytes(raw["hash"]), int(raw["timestamp"]))
        if len(found.hash) != 32 or (isinstance(which, int) and found.number != which):
            raise ChainUnreachableError(
                f"the chain at {self.host} gave no usable answer to block {which}",
                hint="check that the address is an Ethereum JSON-RPC endpoint",
            )
        return found


def _target(action: ContractFunction | ContractConstructor) -> tuple[str | None, str]:
    """Return the contract a transaction goes to, None for a new one, and what it does."""
    if isinstance(action, ContractFunction):
        return str(action.address), action.fn_name
    return None, "deployment"


def _block_identifier(block: BlockRef | None) -> Any:
    if isinstance(block, Block):
        # Pinned by its hash: what was reorganised away is an error, and no other block's answer.
        return {"blockHash": f"0x{block.hash.hex()}", "requireCanonical": True}  # EIP-1898
    return "latest" if block is None else block
