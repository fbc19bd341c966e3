"""One digest over all tensors of a model, as a receipt states it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

_DOMAIN: Final = b"weightproof/resident@1\0"


def resident_digest(digests: Mapping[str, bytes]) -> bytes:
    """Return one digest over tensors by name.

    SHA-256("weightproof/resident@1" 00 ‖ for each name in byte order: u16 length of the name,
    little-endian ‖ name in UTF-8 ‖ its 32-byte tensor digest). A manifest alone gives it too.
    """
    hashed = hashlib.sha256(_DOMAIN)
    for name, digest in sorted((name.encode(), digest) for name, digest in digests.items()):
        hashed.update(len(name).to_bytes(2, "little") + name + digest)
    return hashed.digest()
