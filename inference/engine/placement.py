"""Weights put where they compute, each byte read once, and hashed there.

On the CPU that place is one private mapping without a name or a descriptor, which nobody else can
open; each run of bytes is hashed right after it was read into it. On a GPU runs go through small
page-locked buffers into the tensors, which are hashed there afterwards.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from threading import local
from typing import Final

import torch

from inference.engine.dtypes import DTYPES
from inference.errors import LoadRefusedError
from registry.errors import FileRefusedError
from registry.hashing.finite import magnitude
from registry.hashing.parallel import parallel_map, processors
from registry.hashing.weight_file import Part, Run, WeightFile
from registry.hashing.weights import TensorInfo, TensorRule, chunk_digests, digest_of_chunks

# Processors read vectors of up to this many bytes at once.
_ALIGNMENT: Final = 64
# Hashing lets go of the interpreter for each chunk and has to get it back: with two threads for
# each processor, another one hashes while one waits.
_THREADS_PER_PROCESSOR: Final = 2
# Numbers looked at in one step on a GPU: some hundred megabytes beside the weights.
_SLICE_VALUES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken of bytes as they lie: the digests of their chunks, their largest magnitude."""

    chunks: bytes
    magnitude: int


@dataclass
class Placed:
    """One tensor in its place, and what was taken of it there: nothing yet on a GPU."""

    file: str
    info: TensorInfo
    tensor: torch.Tensor
    taken: list[Taken] = field(default_factory=list)

    @property
    def magnitude(self) -> int:
        """The largest bit pattern without sign, see `registry.hashing.finite`."""
        if self.tensor.is_cuda:
            return _magnitude_there(self.tensor)
        return max(part.magnitude for part in self.taken)

    def digest(self, rule: TensorRule) -> bytes:
        """Return the tensor digest, from the chunks hashed in place."""
        chunks = b"".join(part.chunks for part in self.taken)
        return digest_of_chunks(
            self.info.dtype, self.info.shape, self.tensor.nbytes, chunks, rule=rule
        )


def place(
    files: Iterable[WeightFile],
    where: torch.device,
    rule: TensorRule,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Placed]:
    """Read weight files onto a device; return their tensors by name.

    No two files may hold a tensor of one name. `progress` is called with the bytes placed since its
    last call. Raises `LoadRefusedError` when memory is short or a file changed, and what a block
    store raises.
    """
    listed = list(files)
    placed = (_on_cpu if where.type == "cpu" else _on_device)(listed, where)
    settle = _Hashing(placed, rule) if where.type == "cpu" else _Sending(placed, where)
    threads = _THREADS_PER_PROCESSOR * processors()
    with ThreadPoolExecutor(1, thread_name_prefix="preparing") as aside:
        # Compiling the GPU's hash takes seconds at the first load of a machine: while files come.
        ready = aside.submit(_prepare, where, rule) if where.type == "cuda" else None
        try:
            for parts in parallel_map(settle, _runs(listed, rule), threads=threads):
                for part, taken in parts:
                    placed[part.name].taken.append(taken)
                    if progress is not None:
                        progress(part.size)
        except FileRefusedError as error:
            raise LoadRefusedError(error.path, error.rule) from error
        if ready is not None:
            ready.result()
    return placed


def _prepare(where: torch.device, rule: TensorRule) -> None:
    # Triton comes with torch for GPUs, and is not there without one.
    from inference.engine.sha256_kernel import prepare

    prepare(where, rule.chunk_bytes)


def _runs(files: Iterable[WeightFile], rule: TensorRule) -> Iterator[Run]:
    for file in files:
        yield from file.runs(rule.chunk_bytes)


def _on_cpu(files: Iterable[WeightFile], _where: torch.device) -> dict[str, Placed]:
    offsets: dict[str, tuple[WeightFile, TensorInfo, int]] = {}
    size = 0
    for file in files:
        for name, info in file.tensors.items():
            offsets[name] = (file, info, size)
            size += -(-(info.end - info.start) // _ALIGNMENT) * _ALIGNMENT
    arena = private_memory(size)
    return {
        name: Placed(file.path, info, _view(arena, info, offset))
        for name, (file, info, offset) in offsets.items()
    }


def private_memory(size: int) -> mmap.mmap:
    """Return `size` bytes of zeros without a name; they take no room before they are written.

    They go back to the system at once when nobody uses them any more. Raises `LoadRefusedError`
    where they do not fit.
    """
    try:
        arena = mmap.mmap(-1, max(size, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise LoadRefusedError("model", f"{size} bytes do not fit into memory") from error
    # Pages of 2 MiB where the system has them: a fiftieth of the faults.
    with suppress(OSError):
        arena.madvise(mmap.MADV_HUGEPAGE)
    return arena


def _view(arena: mmap.mmap, info: TensorInfo, offset: int) -> torch.Tensor:
    flat = torch.frombuffer(arena, dtype=DTYPES[info.dtype], count=prod(info.shape), offset=offset)
    return flat.view(info.shape)


def _on_device(files: Iterable[WeightFile], where: torch.device) -> dict[str, Placed]:
    try:
        return {
            name: Placed(
                file.path, info, torch.empty(info.shape, dtype=DTYPES[info.dtype], device=where)
            )
            for file in files
            for name, info in file.tensors.items()
        }
    except torch.OutOfMemoryError as error:
        raise LoadRefusedError("model", "its weights do not fit into the GPU's memory") from error


class _Hashing:
    """Reads a run to where its tensors lie in main memory, and hashes it there."""

    def __init__(self, placed: Mapping[str, Placed], rule: TensorRule) -> None:
        self._placed = placed
        self._rule = rule
        self._bytes = {name: bytes_of(item.tensor) for name, item in placed.items()}

    def __call__(self, run: Run) -> list[tuple[Part, Taken]]:
        views = [self._bytes[p.name][p.start : p.start + p.size] for p in run.parts]
        run.fill(views)
        return [
            (
                part,
                Taken(
                    chunk_digests(view, self._rule.chunk_bytes),
                    magnitude(self._placed[part.name].info.dtype, view),
                ),
            )
            for part, view in zip(run.parts, views, strict=True)
        ]


class _Sending:
    """Reads a run into a page-locked buffer of its thread, and sends it to the device."""

    def __init__(self, placed: Mapping[str, Placed], where: torch.device) -> None:
        self._flat = {name: item.tensor.view(-1).view(torch.uint8) for name, item in placed.items()}
        self._where = where
        self._own = local()

    def __call__(self, run: Run) -> list[tuple[Part, Taken]]:
        size = sum(part.size for part in run.parts)
        buffer = self._buffer(size)
        data, views, start = bytes_of(buffer), [], 0
        for part in run.parts:
            views.append(data[start : start + part.size])
            start += part.size
        run.fill(views)
        self._send(run.parts, buffer)
        return [(part, Taken(b"", 0)) for part in run.parts]

    def _buffer(self, size: int) -> torch.Tensor:
        buffer: torch.Tensor | None = getattr(self._own, "buffer", None)
        if buffer is None or buffer.nbytes < size:
            locked = self._where.type == "cuda"
            buffer = torch.empty(size, dtype=torch.uint8, pin_memory=locked)
            self._own.buffer = buffer
            self._own.stream = _stream(self._where) if locked else None
        return buffer

    def _send(self, parts: tuple[Part, ...], buffer: torch.Tensor) -> None:
        with torch.cuda.stream(self._own.stream):
            start = 0
            for part in parts:
                piece = buffer[start : start + part.size]
                self._flat[part.name][part.start : part.start + part.size].copy_(
                    piece, non_blocking=True
                )
                start += part.size
        if self._own.stream is not None:
            # The buffer is written again by the next run of this thread.
            self._own.stream.synchronize()


def _stream(where: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(where)  # type: ignore[no-untyped-call]  # torch leaves it unannotated


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """Return a contiguous tensor of main memory as its bytes, without a copy."""
    flat = tensor.detach().reshape(-1).view(torch.uint8)
    return memoryview(flat.numpy().data)


def _magnitude_there(tensor: torch.Tensor) -> int:
    """Compute `magnitude` on a GPU, a slice at a time: a whole tensor's copy may not fit."""
    if not tensor.is_floating_point():
        return 0
    signed = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.itemsize]
    mask = torch.iinfo(signed).max
    slices: Iterable[torch.Tensor] = torch.split(tensor.reshape(-1).view(signed), _SLICE_VALUES)
    return max(int(values.bitwise_and(mask).max()) for values in slices)
