"""Which tensors a nonce selects of a model: a pure rule that anybody with the manifest can run.

Neither side can steer it: whoever asks draws the nonce, and the rest is on chain. The tensors of an
adapter are its own and its base's (`registry.adapter.resident_entries`).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from math import prod
from typing import Final

from registry.hashing.safetensors_header import DTYPE_BYTES
from registry.manifest_parts import TensorEntry

# Enough to find a model that was swapped at the first question, at a few milliseconds each.
DEFAULT_TENSORS: Final = 8
MAX_TENSORS: Final = 64
# What one free question may make a node hash: 0.2 s of one processor, 3 ms of an H200.
MAX_SELECTED_BYTES: Final = 256 * 1024 * 1024
_DOMAIN: Final = b"weightproof/selection@1\0"


def select(
    tensors: Sequence[TensorEntry],
    *,
    nonce: bytes,
    model_id: bytes,
    resident_digest: bytes,
    count: int,
) -> tuple[TensorEntry, ...]:
    """Return the tensors that a nonce selects, in the order they are drawn.

    Tensors are numbered from 0 by their names in byte order. With n tensors and

        seed   = SHA-256("weightproof/selection@1" 00 ‖ nonce ‖ ModelId ‖ resident digest)
        word i = first 8 bytes of SHA-256(seed ‖ u64 i), as an integer; all little-endian

    words are taken in order from i = 0. One that is not below the largest multiple of n up to
    2^64 is passed over; of others, `word mod n` is drawn unless it was drawn before. It ends
    after min(`count`, n) tensors, or before one that would bring the sum of bytes over
    `MAX_SELECTED_BYTES`; the first drawn is always taken.
    """
    numbered = sorted(tensors, key=lambda tensor: tensor.name.encode())
    seed = hashlib.sha256(_DOMAIN + nonce + model_id + resident_digest).digest()
    drawn: dict[int, TensorEntry] = {}
    size = 0
    for number in _numbers(seed, len(numbered)):
        if len(drawn) >= min(count, len(numbered)):
            break
        if number in drawn:
            continue
        tensor = numbered[number]
        size += nbytes(tensor)
        if drawn and size > MAX_SELECTED_BYTES:
            break
        drawn[number] = tensor
    return tuple(drawn.values())


def nbytes(tensor: TensorEntry) -> int:
    """Return how many bytes a tensor has."""
    return DTYPE_BYTES[tensor.dtype] * prod(tensor.shape)


def _numbers(seed: bytes, below: int) -> Iterator[int]:
    """Yield numbers from 0 to `below` - 1, each as likely as the others, without end."""
    limit = (1 << 64) - (1 << 64) % below
    index = 0
    while True:
        block = hashlib.sha256(seed + struct.pack("<Q", index)).digest()
        word = int.from_bytes(block[:8], "little")
        index += 1
        if word < limit:
            yield word % below
