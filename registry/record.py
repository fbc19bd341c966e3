"""What the chain stores about one dataset, training run or model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from eth_abi.abi import encode

from registry.signing.keccak import keccak


class Kind(IntEnum):
    """What a record is about; the numbers are the contract's."""

    DATASET = 1
    RUN = 2
    MODEL = 3

    @property
    def word(self) -> str:
        """The kind as manifests and the command line write it."""
        return self.name.lower()


class Status(IntEnum):
    """Whether a record stands; the numbers are the contract's. Revoked is final."""

    ACTIVE = 1
    REVOKED = 2


@dataclass(frozen=True)
class Record:
    """One record. Times are Unix seconds by the chain's clock; `revoked_at` is 0 while active.

    `id` and `manifest_digest` are 32 bytes; `parents` are the ids of the records it came from.
    """

    id: bytes
    publisher: str
    kind: Kind
    status: Status
    registered_at: int
    revoked_at: int
    manifest_digest: bytes
    parents: tuple[bytes, ...]


def record_id(publisher: str, manifest_digest: bytes) -> bytes:
    """Return keccak256(abi.encode(publisher, manifestDigest)).

    The publisher is part of the name, so that nobody can take a digest before its owner does.
    """
    return keccak(encode(["address", "bytes32"], [publisher, manifest_digest]))
