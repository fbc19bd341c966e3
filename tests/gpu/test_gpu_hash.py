"""On a GPU: its hash against hashlib, over real device memory. Skipped where there is none."""

from __future__ import annotations

import hashlib

import pytest
import torch

from inference.engine.sha256_kernel import chunk_digests, chunk_digests_of_many, prepare
from registry.hashing.weights import TENSOR_CHUNK_BYTES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

OLD_CHUNK_BYTES = 16 * 1024
GIB = 1 << 30


def random_bytes(size: int) -> torch.Tensor:
    generator = torch.Generator("cuda").manual_seed(size)
    return torch.randint(0, 256, (size,), dtype=torch.uint8, device="cuda", generator=generator)


def hashed(tensor: torch.Tensor, chunk_bytes: int = TENSOR_CHUNK_BYTES) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8).cpu()
    data = memoryview(flat.numpy().data)
    starts = range(0, len(data), chunk_bytes)
    return b"".join(hashlib.sha256(data[n : n + chunk_bytes]).digest() for n in starts)


def test_the_known_answer_is_given() -> None:
    for chunk_bytes in (TENSOR_CHUNK_BYTES, OLD_CHUNK_BYTES):
        prepare(torch.device("cuda"), chunk_bytes)


@pytest.mark.parametrize("chunk_bytes", [TENSOR_CHUNK_BYTES, OLD_CHUNK_BYTES, 64, 192])
def test_any_length_is_hashed_rightly(chunk_bytes: int) -> None:
    lengths = [0, 1, 63, 64, 65, chunk_bytes - 1, chunk_bytes, chunk_bytes + 1]
    lengths += [31 * chunk_bytes + 7, 32 * chunk_bytes, 33 * chunk_bytes, 1000 * chunk_bytes + 63]
    tensors = [random_bytes(length) for length in lengths]
    expected = [hashed(tensor, chunk_bytes) for tensor in tensors]
    assert chunk_digests_of_many(tensors, chunk_bytes) == expected
    assert [chunk_digests(tensor, chunk_bytes) for tensor in tensors] == expected


@pytest.mark.parametrize("offset", [1, 2, 3, 4, 8, 12, 15, 16, 17])
def test_a_view_that_begins_anywhere_is_hashed_rightly(offset: int) -> None:
    view = random_bytes(40 * TENSOR_CHUNK_BYTES + offset)[offset:]
    other = random_bytes(3 * TENSOR_CHUNK_BYTES)
    expected = [hashed(view), hashed(other), hashed(view[5:])]
    assert chunk_digests_of_many([view, other, view[5:]], TENSOR_CHUNK_BYTES) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_weights_of_any_dtype_are_hashed_where_they_lie(dtype: torch.dtype) -> None:
    weight = torch.nn.Parameter(torch.randn(1000, 1001, device="cuda", dtype=dtype))
    expected = hashed(weight)
    assert chunk_digests(weight, TENSOR_CHUNK_BYTES) == expected
    assert chunk_digests(weight.t(), TENSOR_CHUNK_BYTES) == hashed(weight.t()) != expected


def test_a_model_of_many_small_tensors_is_hashed_in_one_go() -> None:
    sizes = [4096 * 2, 4096 * 4096 * 2, 128, 11 * TENSOR_CHUNK_BYTES, 2] * 60
    tensors = [random_bytes(size) for size in sizes]
    expected = [hashed(tensor) for tensor in tensors]
    assert chunk_digests_of_many(tensors, TENSOR_CHUNK_BYTES) == expected


def test_more_than_two_gib_are_hashed_without_a_copy() -> None:
    size = 2 * GIB + 3 * TENSOR_CHUNK_BYTES + 5
    if torch.cuda.mem_get_info()[0] < 2 * size:
        pytest.skip("needs 4 GiB of free GPU memory")
    tensor = random_bytes(size)
    prepare(tensor.device, TENSOR_CHUNK_BYTES)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    digests = chunk_digests(tensor, TENSOR_CHUNK_BYTES)
    assert torch.cuda.max_memory_allocated() - before < size // 100
    assert digests == hashed(tensor)


@pytest.mark.parametrize("bit", [0, 7, 8 * TENSOR_CHUNK_BYTES, 8 * 50 * TENSOR_CHUNK_BYTES + 3])
def test_a_flipped_bit_changes_the_digest_of_its_chunk_alone(bit: int) -> None:
    tensor = random_bytes(50 * TENSOR_CHUNK_BYTES + 1)
    before = chunk_digests(tensor, TENSOR_CHUNK_BYTES)
    tensor[bit // 8] ^= 1 << bit % 8
    after = chunk_digests(tensor, TENSOR_CHUNK_BYTES)
    changed = [n for n in range(51) if before[32 * n : 32 * n + 32] != after[32 * n : 32 * n + 32]]
    assert changed == [bit // 8 // TENSOR_CHUNK_BYTES]
    assert after == hashed(tensor)


def test_what_a_stream_wrote_before_is_what_is_hashed() -> None:
    tensor = torch.zeros(256 * TENSOR_CHUNK_BYTES, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        for value in range(50):
            tensor.fill_(value)
        digests = chunk_digests(tensor, TENSOR_CHUNK_BYTES)
    assert digests == hashlib.sha256(bytes([49]) * TENSOR_CHUNK_BYTES).digest() * 256
