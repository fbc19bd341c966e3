"""Tensors to digests: what a record promises about weights, wherever they lie.

A tensor's digest covers dtype, shape and bytes, so a loader that reads the right bytes in the
wrong way does not match either. The bytes are hashed in independent chunks:

    SHA-256( "weightproof/tensor@2" 00 ‖ u8 length of dtype ‖ dtype in ASCII
             ‖ u32 number of dimensions ‖ u64 each dimension ‖ u64 number of bytes
             ‖ SHA-256(chunk 0) ‖ SHA-256(chunk 1) ‖ … )          integers little-endian

Chunks are 64 KiB. Manifests of the format model@1 use "weightproof/tensor@1" and 16 KiB.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Final

from registry.errors import FileRefusedError
from registry.hashing.parallel import parallel_map
from registry.hashing.safetensors_header import DTYPE_BYTES, TensorInfo, read_header

__all__ = [
    "TENSOR_1",
    "TENSOR_2",
    "TENSOR_CHUNK_BYTES",
    "HashedTensor",
    "TensorInfo",
    "TensorRule",
    "chunk_digests",
    "digest_of_chunks",
    "hash_weights",
    "read_header",
    "tensor_digest",
]


@dataclass(frozen=True, slots=True)
class TensorRule:
    """How a tensor is hashed: the bytes of a chunk, and the text that names the rule."""

    chunk_bytes: int
    domain: bytes


# On a GPU one thread hashes one chunk. 16 GB of weights are 244 thousand chunks of 64 KiB: two
# waves over the 132 x 1024 hashing threads of an H200. Larger chunks would leave processors idle;
# smaller ones add digests to hash again, and on a CPU the cost of a call for each.
TENSOR_CHUNK_BYTES: Final = 64 * 1024
TENSOR_1: Final = TensorRule(16 * 1024, b"weightproof/tensor@1\0")
TENSOR_2: Final = TensorRule(TENSOR_CHUNK_BYTES, b"weightproof/tensor@2\0")
# What one thread of a CPU hashes at a time: enough to make handing it over cheap.
_SPAN_BYTES: Final = 64 * TENSOR_CHUNK_BYTES


@dataclass(frozen=True, slots=True, order=True)
class HashedTensor:
    """One tensor of a file: name, dtype as safetensors writes it, shape, 32-byte digest."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: bytes


def tensor_digest(
    dtype: str, shape: Sequence[int], data: memoryview | bytes, rule: TensorRule = TENSOR_2
) -> bytes:
    """Return the 32-byte digest of a tensor whose contiguous little-endian bytes are `data`.

    Raises `FileRefusedError` when the bytes do not fill the shape.
    """
    view = memoryview(data)
    # A view without bytes cannot be cast.
    flat = view.cast("B") if view.nbytes else memoryview(b"")
    return digest_of_chunks(
        dtype, shape, flat.nbytes, chunk_digests(flat, rule.chunk_bytes), rule=rule
    )


def chunk_digests(data: memoryview, chunk_bytes: int = TENSOR_CHUNK_BYTES) -> bytes:
    """Return the SHA-256 of each chunk, one after another; the last chunk may be shorter."""
    starts = range(0, len(data), chunk_bytes)
    return b"".join(hashlib.sha256(data[start : start + chunk_bytes]).digest() for start in starts)


def digest_of_chunks(
    dtype: str, shape: Sequence[int], nbytes: int, chunks: bytes, rule: TensorRule = TENSOR_2
) -> bytes:
    """Return the digest of a tensor whose chunk digests were computed elsewhere (on a GPU).

    `nbytes` counts the tensor's bytes, `chunks` is what `chunk_digests` would return for them.
    Raises `FileRefusedError` when the numbers do not fit together.
    """
    size = DTYPE_BYTES.get(dtype)
    expected = 32 * -(-nbytes // rule.chunk_bytes)
    if size is None or nbytes != size * prod(shape) or len(chunks) != expected:
        raise FileRefusedError(
            "tensor", f"{nbytes} bytes in {len(chunks) // 32} chunks are no {dtype} {list(shape)}"
        )
    hashed = hashlib.sha256(rule.domain)
    hashed.update(struct.pack("<B", len(dtype)) + dtype.encode("ascii"))
    hashed.update(struct.pack(f"<I{len(shape)}QQ", len(shape), *shape, nbytes))
    hashed.update(chunks)
    return hashed.digest()


def hash_weights(
    data: memoryview,
    *,
    path: str = "weights",
    progress: Callable[[int], None] | None = None,
    threads: int | None = None,
    rule: TensorRule = TENSOR_2,
) -> tuple[HashedTensor, ...]:
    """Return every tensor of a safetensors file, sorted by name, hashed on all processors.

    `data` is the whole file, one byte an item. `progress` is called on the caller's thread with
    the bytes done since its last call. Raises `FileRefusedError` like `read_header`, naming `path`.
    """
    header = read_header(data, path=path)

    def hash_span(span: tuple[str, int, int]) -> bytes:
        return chunk_digests(data[span[1] : span[2]], rule.chunk_bytes)

    hashed = []
    digests = parallel_map(hash_span, _spans(header), threads=threads)
    for name, spans in groupby(_spans(header), key=lambda span: span[0]):
        parts = []
        for _, start, end in spans:
            parts.append(next(digests))
            if progress is not None:
                progress(end - start)
        info = header[name]
        digest = digest_of_chunks(
            info.dtype, info.shape, info.end - info.start, b"".join(parts), rule
        )
        hashed.append(HashedTensor(name, info.dtype, info.shape, digest))
    return tuple(sorted(hashed))


def _spans(header: dict[str, TensorInfo]) -> Iterator[tuple[str, int, int]]:
    for name, info in header.items():
        for start in range(info.start, info.end, _SPAN_BYTES):
            yield name, start, min(start + _SPAN_BYTES, info.end)
