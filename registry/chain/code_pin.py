"""The code of the contracts that decide, pinned: it must be what this project compiled.

At the opening a contract's code is compared with the committed artifact, and what its constructor
wrote into it (the immutables) with what it must have written. Another code, a proxy (EIP-1967) or
a delegation (EIP-7702) is taken only when the settings name its fingerprint. Later the code must
stay the same, a proxy's implementation too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from eth_utils.address import to_checksum_address

from registry.chain.artifact import load
from registry.chain.block import BlockRef
from registry.chain.connection import Chain
from registry.errors import ChainDisputedError, ChainMismatchError
from registry.signing.keccak import keccak
from registry.signing.typed_data import Domain

# EIP-1967: keccak256("eip1967.proxy.implementation") - 1, and the same of "beacon".
_IMPLEMENTATION: Final = 0x360894A13BA1A3210667C828492DB98DCA3E2076CC3735A920A3CA505D382BBC
_BEACON: Final = 0xA3F0AD74E5423AEBFD80D3EF4346578335A9A72AEAEE59FF6CB3582B35133D50
# EIP-7702: an account that lets the code of another address act for it.
_DELEGATION: Final = bytes.fromhex("ef0100")
_DELEGATION_BYTES: Final = 23
_WORD: Final = 32
# A chain id is smaller than this, an address or a hash is not (but by a miracle).
_SMALL: Final = 1 << 64


@dataclass(frozen=True)
class Code:
    """What acts at an address: its code and, for a proxy or delegation, whose code it borrows."""

    code: bytes
    borrows: str = ""
    borrowed: bytes = b""

    @property
    def fingerprint(self) -> bytes:
        """32 bytes: keccak256 of the code, or of its hash, the lender and the hash of its code."""
        own = keccak(self.code)
        if not self.borrows:
            return own
        return keccak(own + bytes.fromhex(self.borrows[2:]) + keccak(self.borrowed))


@dataclass(frozen=True)
class CodePin:
    """One contract (`name` is its artifact's) whose code may not change any more."""

    name: str
    address: str
    pinned: Code

    def check(self, chain: Chain, block: BlockRef) -> None:
        """Compare the code at `block` with what was pinned.

        Raises `ChainDisputedError` when it changed, `ChainMismatchError` when there is none yet.
        """
        found = read_code(chain, self.address, block, borrows=bool(self.pinned.borrows))
        if not found.code:
            raise ChainMismatchError(
                f"there is no {self.name} contract at {self.address} at this block",
                hint="it may not be final yet; else check the address and the chain",
            )
        if found != self.pinned:
            was, has = f"0x{self.pinned.fingerprint.hex()}", f"0x{found.fingerprint.hex()}"
            raise ChainDisputedError(
                f"the code of {self.name} at {self.address} changed from {was} to {has}",
                evidence=(("pinned", was), (chain.host, has)),
                hint="the contract was replaced or the endpoint lies; trust neither until you know",
            )


def pin(
    chain: Chain,
    name: str,
    address: str,
    *,
    domain: Domain,
    holds: Iterable[str] = (),
    expected: bytes | None = None,
) -> CodePin:
    """Pin the code that the contract `name` has now.

    `domain` is its EIP-712 domain and `holds` the addresses it keeps, both written into its code
    by its constructor. With `expected` its fingerprint must be that, whatever the code is. Raises
    `ChainMismatchError` for any other code, for none, and for a beacon proxy.
    """
    code = chain.code(address)
    if not code:
        raise ChainMismatchError(
            f"there is no {name} contract at {address} on chain {chain.chain_id}",
            hint="check the address and the chain, or deploy the contracts first",
        )
    if expected is None and _is_ours(name, code, domain, holds):
        return CodePin(name, address, Code(code))
    found = read_code(chain, address, None, borrows=True)
    if found.fingerprint != expected:
        raise ChainMismatchError(
            f"the {name} contract at {address} is {_what(name, found)}; "
            f"its code has the fingerprint 0x{found.fingerprint.hex()}",
            hint="check the address; if you know and trust this code, name its fingerprint in the "
            "settings (contracts.model_registry_code, contracts.attestations_code)",
        )
    return CodePin(name, address, found)


def read_code(chain: Chain, address: str, block: BlockRef | None, *, borrows: bool) -> Code:
    """Read the code at an address and, with `borrows`, the code it borrows.

    Raises `ChainMismatchError` for a beacon proxy: its code can change where no pin would see it.
    """
    code = chain.code(address, block)
    if not borrows or not code:
        return Code(code)
    lender = b""
    if code.startswith(_DELEGATION) and len(code) == _DELEGATION_BYTES:
        lender = code[len(_DELEGATION) :]
    elif any(chain.storage(address, _BEACON, block)):
        raise ChainMismatchError(
            f"the contract at {address} is a beacon proxy, which cannot be pinned",
            hint="use a contract that cannot be changed",
        )
    elif any(word := chain.storage(address, _IMPLEMENTATION, block)):
        lender = word[12:]
    if not lender:
        return Code(code)
    borrowed = str(to_checksum_address(lender))
    return Code(code, borrowed, chain.code(borrowed, block))


def _is_ours(name: str, code: bytes, domain: Domain, holds: Iterable[str]) -> bool:
    """Compare with the artifact: the code outside its immutables, and what these are."""
    artifact = load(name)
    if len(code) != len(artifact.deployed_bytecode):
        return False
    bare, words = bytearray(code), set()
    for at in artifact.immutables:
        words.add(code[at : at + _WORD])
        bare[at : at + _WORD] = bytes(_WORD)
    return bytes(bare) == artifact.deployed_bytecode and words == _written(domain, holds, words)


def _written(domain: Domain, holds: Iterable[str], words: set[bytes]) -> set[bytes]:
    """Return what OpenZeppelin's EIP712 and a constructor with `holds` write into the code."""
    # A chain may have taken another id since the deployment (EIP-1344); OpenZeppelin's code then
    # computes the domain anew, so that the old id with its own domain is as good.
    ids = [int.from_bytes(word, "big") for word in words if int.from_bytes(word, "big") < _SMALL]
    chain_id = ids[0] if len(ids) == 1 else domain.chain_id
    separator = Domain(domain.name, domain.version, chain_id, domain.contract).separator()
    texts = [text.encode() for text in (domain.name, domain.version)]
    addresses = [address for address in (domain.contract, *holds) if address]
    return {
        separator,
        chain_id.to_bytes(_WORD, "big"),
        *(keccak(text) for text in texts),
        # A Solidity ShortString: the text from the left, its length in the last byte.
        *(text.ljust(_WORD - 1, b"\0") + bytes([len(text)]) for text in texts),
        *(bytes.fromhex(address[2:]).rjust(_WORD, b"\0") for address in addresses),
    }


def _what(name: str, found: Code) -> str:
    if found.code.startswith(_DELEGATION):
        return f"an account that delegates to {found.borrows} (EIP-7702)"
    if found.borrows:
        return f"a proxy of {found.borrows} (EIP-1967)"
    return f"not the {name} of this version"
