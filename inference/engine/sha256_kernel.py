"""Chunk digests on the GPU: the very buffers that a model computes with, hashed where they lie.

SHA-256 is sequential within a chunk, so speed comes from many chunks at once. One thread hashes
one chunk; an H200 holds 132 x 1024 such threads (`sha256_rounds` says why).

Why chunks of 64 KiB: 16 GB of weights are 244,141 of them, 58 warps for each processor, which runs
32 at once and starts the next as one ends: the GPU is full until the last few. 2 GB still give each
of the 528 schedulers two warps, enough to use about half of it. With 256 KiB even 16 GB would leave
half of the threads without work. Smaller chunks fill it sooner (16 KiB, the size of records of
the first format: with 2 GB), but their digests are hashed again, on the CPU and in sequence for
each tensor, and a CPU that hashes chunks pays a call for each.

Why all tensors in one launch: one chunk takes a thread some 3 ms (1025 blocks of 1410 instructions
that wait for one another, 4 to 5 clocks each), and so does a launch of any size. A matrix of 32 MB
alone has 512 chunks, 16 warps, and would take as long as 500 MB. So the kernel is told where each
chunk lies, whichever tensor it is of.

Why the last, shorter chunk of a tensor is hashed by hashlib: in the kernel its length and padding
would cost all lanes a second way through the code and masked loads; here it costs a copy of at
most one chunk. The small tensors of a model, hundreds of norms and biases, are such tails, and the
tails of all tensors come back in one transfer and are hashed while the GPU works.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Final

import torch

from inference.engine.sha256_reference import BLOCK_BYTES, DIGEST_BYTES
from inference.errors import LoadRefusedError
from registry.errors import ConfigError

# What one load of the kernel reads. torch's own allocations begin at multiples of 512.
_LOAD_BYTES: Final = 16


def chunk_digests(data: torch.Tensor, chunk_bytes: int) -> bytes:
    """Return the SHA-256 of each chunk of a tensor on a GPU: `chunk_digests_of_many` of one."""
    return chunk_digests_of_many([data], chunk_bytes)[0]


def chunk_digests_of_many(tensors: Sequence[torch.Tensor], chunk_bytes: int) -> list[bytes]:
    """Return for each tensor the SHA-256 of each of its chunks, one after another.

    The tensors lie on one GPU and have any dtype and shape; of one that is not contiguous, a
    contiguous copy is hashed. A chunk has `chunk_bytes` bytes, a multiple of 64; the last one of a
    tensor may be shorter. The work joins the current stream and is done at return. It takes 40
    bytes of GPU memory a chunk (0.06 % of the weights) and room for the tails. Raises
    `LoadRefusedError` for tensors on several devices and for another chunk size, `ConfigError`
    where Triton is missing.
    """
    if chunk_bytes < BLOCK_BYTES or chunk_bytes % BLOCK_BYTES:
        raise LoadRefusedError("tensor", f"no chunk of {chunk_bytes} bytes can be hashed on a GPU")
    flats = [tensor.detach().reshape(-1).view(torch.uint8) for tensor in tensors]
    if len({flat.device for flat in flats}) > 1:
        raise LoadRefusedError("tensor", "tensors of several devices cannot be hashed together")
    if not flats:
        return []
    # What only the slower kernel can read goes last.
    order = sorted(range(len(flats)), key=lambda index: _is_odd(flats[index]))
    ordered = [flats[index] for index in order]
    ends = [flat[flat.numel() // chunk_bytes * chunk_bytes :] for flat in ordered]
    tails = _fetched(torch.cat(ends))
    whole = launch(ordered, chunk_bytes)
    # While the GPU hashes the chunks.
    tail_digests = _digests_of_tails(tails, [end.numel() for end in ends])
    digests = _fetched(whole)
    results = [b""] * len(flats)
    for index, tail in zip(order, tail_digests, strict=True):
        size = flats[index].numel() // chunk_bytes * DIGEST_BYTES
        results[index] = bytes(digests[:size]) + tail
        digests = digests[size:]
    return results


def prepare(device: torch.device, chunk_bytes: int) -> None:
    """Compile the kernel for a device, unless it is in Triton's cache, and test it.

    Compiling takes some seconds, which a loader can spend in a thread while it reads files. A GPU
    that hashes a known chunk wrongly is told apart here from weights that are wrong. Raises
    `LoadRefusedError` for such a GPU, else like `chunk_digests_of_many`.
    """
    known = bytes(number * number % 251 for number in range(chunk_bytes))
    data = torch.frombuffer(bytearray(known), dtype=torch.uint8).to(device)
    if chunk_digests(data, chunk_bytes) != hashlib.sha256(known).digest():
        raise LoadRefusedError("tensor", f"{device} hashes a known chunk wrongly")


def launch(flats: Sequence[torch.Tensor], chunk_bytes: int) -> torch.Tensor:
    """Launch the kernel for all chunks of full length; return their digests, still on the GPU.

    `flats` are 1-D uint8 tensors. Those at odd places come last and go to the slower kernel that
    can read them.
    """
    counts = [flat.numel() // chunk_bytes for flat in flats]
    total = sum(counts)
    if not total:
        return torch.empty(0, dtype=torch.uint8)
    rounds = _rounds()
    odd = sum(count for flat, count in zip(flats, counts, strict=True) if _is_odd(flat))
    addresses = _addresses(flats, counts, chunk_bytes)
    digests = torch.empty(total * DIGEST_BYTES, dtype=torch.uint8, device=flats[0].device)
    words = digests.view(-1, DIGEST_BYTES).view(torch.uint32)
    with torch.cuda.device_of(digests):  # type: ignore[no-untyped-call]  # torch's
        for first, end, aligned in ((0, total - odd, True), (total - odd, total, False)):
            if first < end:
                rounds.hash_chunks[(-(-(end - first) // rounds.LANES),)](
                    addresses[first:],
                    words[first:],
                    end - first,
                    BLOCKS=chunk_bytes // BLOCK_BYTES,
                    ALIGNED=aligned,
                    LANES=rounds.LANES,
                    num_warps=1,
                    # SHA-256 adds modulo 2^32; under TRITON_DEBUG that would count as an error.
                    sanitize_overflow=False,
                )
    return digests


def _addresses(
    flats: Sequence[torch.Tensor], counts: Sequence[int], chunk_bytes: int
) -> torch.Tensor:
    """Return where each chunk lies, written by the GPU itself: a million addresses are 8 MB."""
    starts, first = [], 0
    for flat, count in zip(flats, counts, strict=True):
        starts.append(flat.data_ptr() - first * chunk_bytes)
        first += count
    device = flats[0].device
    table = torch.tensor([starts, counts], dtype=torch.int64, device=device)
    addresses = torch.repeat_interleave(table[0], table[1], output_size=first)
    return addresses.add_(torch.arange(first, device=device), alpha=chunk_bytes)


def _is_odd(flat: torch.Tensor) -> bool:
    return flat.data_ptr() % _LOAD_BYTES != 0


def _digests_of_tails(tails: memoryview, sizes: Sequence[int]) -> list[bytes]:
    digests, first = [], 0
    for size in sizes:
        digests.append(hashlib.sha256(tails[first : first + size]).digest() if size else b"")
        first += size
    return digests


def _fetched(data: torch.Tensor) -> memoryview:
    return memoryview(data.cpu().numpy().data)


def _rounds() -> ModuleType:
    """Import the kernel, and with it Triton, which a node without a GPU never loads."""
    try:
        return importlib.import_module("inference.engine.sha256_rounds")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the module {error.name} is missing, which hashes on the GPU",
            hint="Install the build of torch for this GPU, which brings it, or set device to cpu.",
        ) from error
