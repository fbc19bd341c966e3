"""What every manifest is: one canonical block with a digest and a CID."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property

from registry.errors import ManifestError
from registry.ipfs.cid import RAW, Cid
from registry.signing.canonical import MAX_BYTES, JsonObject, encode


class Block(ABC):
    """What all manifests can do: be one block with a digest and a CID."""

    @abstractmethod
    def to_json(self) -> JsonObject:
        """Return the manifest as a JSON object."""

    @cached_property
    def _encoded(self) -> bytes:
        data = encode(self.to_json())
        if len(data) > MAX_BYTES:
            raise ManifestError(
                f"the manifest has {len(data)} bytes, more than the {MAX_BYTES} of one block",
                hint="pack many small files into fewer large ones",
            )
        return data

    def encode(self) -> bytes:
        """Return the canonical bytes: the block."""
        return self._encoded

    @property
    def digest(self) -> bytes:
        """SHA-256 of the block, 32 bytes: what the chain records."""
        return hashlib.sha256(self._encoded).digest()

    @property
    def cid(self) -> Cid:
        """The block's name."""
        return Cid(RAW, self.digest)
