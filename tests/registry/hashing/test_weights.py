from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from registry.errors import FileRefusedError
from registry.hashing.weights import (
    TENSOR_1,
    TENSOR_2,
    TENSOR_CHUNK_BYTES,
    chunk_digests,
    digest_of_chunks,
    hash_weights,
    tensor_digest,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "tensor_vectors.json").read_text())


def by_the_rule(
    dtype: str, shape: tuple[int, ...], data: bytes, version: int = 2, chunk: int = 65536
) -> bytes:
    """The documented rule once more, written as plainly as possible."""
    message = b"weightproof/tensor@%d\0" % version + bytes([len(dtype)]) + dtype.encode()
    message += struct.pack("<I", len(shape))
    for dimension in shape:
        message += struct.pack("<Q", dimension)
    message += struct.pack("<Q", len(data))
    while data:
        message += hashlib.sha256(data[:chunk]).digest()
        data = data[chunk:]
    return hashlib.sha256(message).digest()


def test_bytes_that_do_not_fill_the_shape_are_refused() -> None:
    for dtype, shape, size in [("F32", (2,), 7), ("F32", (2,), 9), ("F33", (2,), 8), ("U8", (), 0)]:
        with pytest.raises(FileRefusedError):
            tensor_digest(dtype, shape, bytes(size))
    with pytest.raises(FileRefusedError):
        digest_of_chunks("U8", (65537,), 65537, bytes(32))
    with pytest.raises(FileRefusedError):
        digest_of_chunks("U8", (16385,), 16385, bytes(32), TENSOR_1)


@pytest.mark.parametrize("vector", VECTORS["tensors"], ids=lambda v: f"{v['dtype']}{v['shape']}")
def test_a_pinned_tensor_keeps_its_digest(vector: dict[str, Any]) -> None:
    shape = vector["shape"]
    size = vector["bytes"]
    data = bytes(n * n % 251 for n in range(size))
    dtype = vector["dtype"]
    for version, rule in ((1, TENSOR_1), (2, TENSOR_2)):
        found = tensor_digest(dtype, shape, data, rule)
        assert "0x" + found.hex() == vector[f"digest_{version}"]
        assert found == by_the_rule(dtype, tuple(shape), data, version, rule.chunk_bytes)


def test_dtype_shape_and_bytes_all_count() -> None:
    data = bytes(8)
    digests = {
        tensor_digest("F32", (2,), data),
        tensor_digest("I32", (2,), data),
        tensor_digest("F32", (2, 1), data),
        tensor_digest("F32", (1, 2), data),
        tensor_digest("F64", (), data),
        tensor_digest("F32", (2,), bytes(7) + b"\1"),
    }
    assert len(digests) == 6


def test_chunk_digests_made_elsewhere_give_the_same_digest() -> None:
    data = bytes(range(256)) * 800
    assert digest_of_chunks("U8", (204800,), 204800, chunk_digests(memoryview(data))) == (
        tensor_digest("U8", (204800,), data)
    )


def test_a_tensor_of_many_dimensions_hashes_like_its_flat_bytes() -> None:
    array = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    assert tensor_digest("F32", array.shape, array.data) == tensor_digest(
        "F32", (3, 4, 5), array.tobytes()
    )


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_file_of_the_library_is_hashed_tensor_by_tensor(threads: int) -> None:
    random = np.random.default_rng(1)
    tensors = {
        "small": np.array([1, 2, 3], dtype=np.int64),
        "scalar": np.array(1.5, dtype=np.float16),
        "exact": random.integers(0, 255, TENSOR_CHUNK_BYTES, dtype=np.uint8),
        "large": random.standard_normal((1500, 1000), dtype=np.float32),
    }
    data = save(tensors, metadata={"format": "pt"})
    done: list[int] = []
    hashed = hash_weights(memoryview(data), progress=done.append, threads=threads)
    names = {"int64": "I64", "float16": "F16", "uint8": "U8", "float32": "F32"}
    assert [(t.name, t.dtype, t.shape, t.digest) for t in hashed] == [
        (name, names[str(a.dtype)], a.shape, by_the_rule(names[str(a.dtype)], a.shape, a.tobytes()))
        for name, a in sorted(tensors.items())
    ]
    assert sum(done) == sum(array.nbytes for array in tensors.values())
