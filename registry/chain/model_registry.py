"""The ModelRegistry contract: records, names, and registering for somebody else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from web3.contract import Contract

from registry.chain.block import BlockRef, TxReceipt
from registry.chain.connection import Chain
from registry.errors import ChainMismatchError, RecordUnknownError
from registry.record import Kind, Record, Status
from registry.signing.signer import Signer
from registry.signing.typed_data import Domain, Struct

_REGISTER: Final = Struct(
    "Register",
    {
        "publisher": "address",
        "kind": "uint8",
        "manifestDigest": "bytes32",
        "parents": "bytes32[]",
        "deadline": "uint256",
    },
)
_REVOKE: Final = Struct("Revoke", {"id": "bytes32", "reason": "string", "deadline": "uint256"})
_SET_NAME: Final = Struct(
    "SetName",
    {
        "publisher": "address",
        "name": "string",
        "id": "bytes32",
        "nonce": "uint256",
        "deadline": "uint256",
    },
)


class ModelRegistry:
    """One deployed ModelRegistry. Digests and ids are 32 bytes, deadlines Unix seconds."""

    def __init__(self, chain: Chain, address: str) -> None:
        self.chain: Final = chain
        self.address: Final = address

    @property
    def chain_id(self) -> int:
        """The id of the chain it is on."""
        return self.chain.chain_id

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain that relayed calls are signed in."""
        return Domain("Weightproof ModelRegistry", "1", self.chain_id, self.address)

    def record(self, id: bytes, *, block: BlockRef | None = None) -> Record:
        """Return a record, at `block` or at the head. Raises `RecordUnknownError`."""
        found = self.find(id, block=block)
        if found is None:
            raise RecordUnknownError(
                f"there is no record 0x{id.hex()} on chain {self.chain_id}"
                + (f" at block {_show(block)}" if block is not None else ""),
                hint="check the id, the chain and the registry's address",
            )
        return found

    def find(self, id: bytes, *, block: BlockRef | None = None) -> Record | None:
        """Return a record, or None where there is none."""
        functions = self._contract().functions
        raw: Any = self.chain.call(functions.record(id), block)
        publisher, kind, status, registered_at, revoked_at, digest = raw
        if status == 0:
            return None
        parents = self.chain.call(functions.parents(id), block)
        try:
            kind, status = Kind(kind), Status(status)
        except ValueError as error:
            raise ChainMismatchError(
                f"the registry at {self.address} answers a kind or status we do not know",
                hint="it is another version of the contract",
            ) from error
        return Record(
            id, publisher, kind, status, registered_at, revoked_at, digest, tuple(parents)
        )

    def register(
        self, signer: Signer, kind: Kind, manifest_digest: bytes, parents: Sequence[bytes]
    ) -> TxReceipt:
        """Register as `signer`, who pays the gas."""
        call = self._contract().functions.register(int(kind), manifest_digest, list(parents))
        return self.chain.send(signer, call)

    def sign_registration(
        self,
        publisher: Signer,
        kind: Kind,
        manifest_digest: bytes,
        parents: Sequence[bytes],
        deadline: int,
    ) -> bytes:
        """Sign a registration that somebody else will send before `deadline`; 65 bytes."""
        values = {
            "publisher": publisher.address,
            "kind": int(kind),
            "manifestDigest": manifest_digest,
            "parents": list(parents),
            "deadline": deadline,
        }
        return publisher.sign_digest(_REGISTER.digest(self.domain.separator(), values))

    def register_for(
        self,
        relayer: Signer,
        publisher: str,
        kind: Kind,
        manifest_digest: bytes,
        parents: Sequence[bytes],
        deadline: int,
        signature: bytes,
    ) -> TxReceipt:
        """Send a registration that `publisher` signed; `relayer` pays the gas."""
        call = self._contract().functions.registerFor(
            publisher, int(kind), manifest_digest, list(parents), deadline, signature
        )
        return self.chain.send(relayer, call)

    def revoke(self, signer: Signer, id: bytes, reason: str) -> TxReceipt:
        """Revoke a record for good. Only its publisher may."""
        return self.chain.send(signer, self._contract().functions.revoke(id, reason))

    def sign_revocation(self, publisher: Signer, id: bytes, reason: str, deadline: int) -> bytes:
        """Sign a revocation that somebody else will send; 65 bytes."""
        values = {"id": id, "reason": reason, "deadline": deadline}
        return publisher.sign_digest(_REVOKE.digest(self.domain.separator(), values))

    def revoke_for(
        self, relayer: Signer, id: bytes, reason: str, deadline: int, signature: bytes
    ) -> TxReceipt:
        """Send a revocation that the publisher signed."""
        call = self._contract().functions.revokeFor(id, reason, deadline, signature)
        return self.chain.send(relayer, call)

    def set_name(self, signer: Signer, name: str, id: bytes) -> TxReceipt:
        """Point the publisher's `name` at one of its active records."""
        return self.chain.send(signer, self._contract().functions.setName(name, id))

    def nonce(self, publisher: str) -> int:
        """Return the nonce that the publisher's next signed name must carry."""
        return int(self.chain.call(self._contract().functions.nonces(publisher)))

    def sign_name(
        self, publisher: Signer, name: str, id: bytes, nonce: int, deadline: int
    ) -> bytes:
        """Sign a name that somebody else will set; 65 bytes."""
        values = {
            "publisher": publisher.address,
            "name": name,
            "id": id,
            "nonce": nonce,
            "deadline": deadline,
        }
        return publisher.sign_digest(_SET_NAME.digest(self.domain.separator(), values))

    def set_name_for(
        self,
        relayer: Signer,
        publisher: str,
        name: str,
        id: bytes,
        nonce: int,
        deadline: int,
        signature: bytes,
    ) -> TxReceipt:
        """Send a name that the publisher signed."""
        call = self._contract().functions.setNameFor(
            publisher, name, id, nonce, deadline, signature
        )
        return self.chain.send(relayer, call)

    def resolve(self, publisher: str, name: str, *, block: BlockRef | None = None) -> bytes | None:
        """Return the record that a publisher's name points at, or None."""
        found = self.chain.call(self._contract().functions.resolve(publisher, name), block)
        return bytes(found) if any(found) else None

    def _contract(self) -> Contract:
        return self.chain.contract("ModelRegistry", self.address)


def _show(block: BlockRef) -> str:
    return str(block if isinstance(block, int | str) else block.number)
