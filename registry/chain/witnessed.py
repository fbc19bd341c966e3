"""A chain that several endpoints must agree about: one alone cannot hide a revocation.

The first endpoint serves everything. Which block is final, and what is asked about a whole block,
is asked of all of them, and the raw answers must be equal: contracts need not know. Transactions
and questions about "now" go to the first endpoint only, for honest endpoints differ in their heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from registry.chain.block import Block, BlockRef
from registry.chain.connection import Chain
from registry.errors import ChainDisputedError, TransactionFailedError

# Characters of an answer that an error message shows of each side; the evidence holds all of it.
_SHOWN: Final = 74
_REVERTED: Final = "reverted"


class WitnessedChain(Chain):
    """A `Chain` whose answers about a stated block are compared with those of `witnesses`.

    Raises `ChainDisputedError` when they differ, and what a witness that gives no answer raises:
    silence is no agreement.
    """

    def __init__(
        self, rpc_url: str, witnesses: Sequence[str], timeout_s: float = 10.0, *, chain_id: int
    ) -> None:
        super().__init__(rpc_url, timeout_s, chain_id=chain_id)
        self._witnesses: Final = tuple(
            Chain(url, timeout_s, chain_id=chain_id) for url in witnesses
        )
        self._all: Final[tuple[Chain, ...]] = (self, *self._witnesses)

    @property
    def chain_id(self) -> int:
        """The chain's id. Raises `ChainMismatchError` when an endpoint serves another chain."""
        for witness in self._witnesses:
            _ = witness.chain_id
        return super().chain_id

    def block(self, finality: int | str = "latest") -> Block:
        """Return the newest block that is final enough for every endpoint."""
        found = [Chain.block(chain, finality) for chain in self._all]
        lowest = min(block.number for block in found)
        return self._same_block(
            lowest,
            [
                block if block.number == lowest else Chain.block_at(chain, lowest)
                for chain, block in zip(self._all, found, strict=True)
            ],
        )

    def block_at(self, number: int) -> Block:
        """Return block `number`, which must be the same at every endpoint."""
        return self._same_block(number, [Chain.block_at(chain, number) for chain in self._all])

    def code(self, address: str, block: BlockRef | None = None) -> bytes:
        """Return the code at `address`, empty where there is none."""
        return self._same("eth_getCode", block, lambda chain: Chain.code(chain, address, block))

    def storage(self, address: str, slot: int, block: BlockRef | None = None) -> bytes:
        """Return the 32 bytes that a contract keeps in `slot`."""
        return self._same(
            "eth_getStorageAt", block, lambda chain: Chain.storage(chain, address, slot, block)
        )

    def ask(
        self, to: str | None, data: str, block: BlockRef | None, doing: str, *, gas: int = 0
    ) -> bytes:
        """Return the bytes that the contract `to` answers to 0x… `data`."""
        return self._same(
            doing, block, lambda chain: Chain.ask(chain, to, data, block, doing, gas=gas)
        )

    def _same_block(self, number: int, found: Sequence[Block]) -> Block:
        says = [f"0x{block.hash.hex()} of time {block.timestamp}" for block in found]
        self._agree(f"block {number}", says)
        return found[0]

    def _same(self, doing: str, block: BlockRef | None, ask: Callable[[Chain], bytes]) -> bytes:
        if not isinstance(block, Block):
            return ask(self)
        answers: list[bytes] = []
        refusals: list[TransactionFailedError] = []
        says = []
        for chain in self._all:
            try:
                answers.append(ask(chain))
                says.append(f"0x{answers[-1].hex()}")
            except TransactionFailedError as error:
                # That it refuses must agree; in which words differs from client to client.
                refusals.append(error)
                says.append(_REVERTED)
        self._agree(f"{doing} at block {block.number}", says)
        if refusals:
            raise refusals[0]
        return answers[0]

    def _agree(self, doing: str, says: Sequence[str]) -> None:
        evidence = tuple((chain.host, said) for chain, said in zip(self._all, says, strict=True))
        for host, said in evidence[1:]:
            if said != says[0]:
                raise ChainDisputedError(
                    f"two endpoints disagree about {doing}: {self.host} says {_short(says[0])}, "
                    f"{host} says {_short(said)}",
                    evidence=evidence,
                    hint="one of them lies or is broken; find out which before you trust either",
                )


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
