"""The GPU's hash over resident bf16 weights, beside what it is measured by. JSON on stdout.

`kernel` is the time on the GPU for all whole chunks; `hash` is the whole call as the node makes it:
addresses, kernel, digests and tails fetched to main memory, tails hashed. `hashlib` is SHA-256 of
the same bytes in main memory on all processors; `memcpy` is a copy within GPU memory, of which each
byte is read once and written once. A side's figure is the median of its runs, in GB/s (10^9 bytes).
`alone` is one matrix of 32 MiB hashed by itself, in seconds: what a launch takes at least.
`agrees_with_hashlib` says whether the digests of 100 MB are the ones that hashlib gives.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from inference.engine.sha256_kernel import chunk_digests_of_many, launch, prepare
from registry.hashing.parallel import parallel_map, processors
from registry.hashing.weights import TENSOR_CHUNK_BYTES, chunk_digests

_GOAL_GB_S = 100
# One layer of an 8B Llama: attention, MLP, two norms; in elements.
_LAYER = [4096 * 4096, 1024 * 4096, 1024 * 4096, 4096 * 4096, *[14336 * 4096] * 3, 4096, 4096]
# What hashlib and the copy are given at most: their rates do not depend on the size.
_HASHLIB_BYTES = 2 * 10**9
_COPY_BYTES = 4 * 10**9
_SPAN_BYTES = 4 * 1024 * 1024


def main(arguments: Sequence[str]) -> None:
    """Measure each size and chunk size, alternating between the sides, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument(
        "--chunk-bytes", type=int, nargs="+", default=[16 * 1024, TENSOR_CHUNK_BYTES]
    )
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        parser.exit(
            2,
            "error: torch sees no CUDA device\n"
            "Run this on a machine with an NVIDIA GPU and its driver, with the CUDA build of torch "
            "(which brings Triton) in place of the CPU build.\n",
        )
    free = torch.cuda.mem_get_info()[0]
    sizes = [int(size * 1e9) for size in sorted(options.gb)]
    fitting = [size for size in sizes if 1.01 * size + 2 * _COPY_BYTES < free]
    result = {
        "bench": "gpu_hash",
        "gpu": torch.cuda.get_device_name(),
        "machine": f"{processors()} x {platform.machine()}",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "runs": options.runs,
        "goal_gb_s": _GOAL_GB_S,
        "chunks": {str(size): _with_chunks(size) for size in options.chunk_bytes},
        "sizes": [_measure(size, options.chunk_bytes, options.runs) for size in fitting],
        "left_out_for_memory": [size for size in sizes if size not in fitting],
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def _with_chunks(chunk_bytes: int) -> dict[str, float | bool]:
    """Return what a chunk size costs once and at least, and that its digests are right."""
    begin = time.perf_counter()
    prepare(torch.device("cuda"), chunk_bytes)
    prepared = time.perf_counter() - begin
    tensors = _weights(10**8)
    expected = [chunk_digests(_host(tensor), chunk_bytes) for tensor in tensors]
    right = chunk_digests_of_many(tensors, chunk_bytes) == expected
    matrix = [torch.randn(4096, 4096, device="cuda").bfloat16()]
    times = [_wall(lambda: chunk_digests_of_many(matrix, chunk_bytes)) for _ in range(10)]
    return {
        "prepare_s": round(prepared, 3),
        "alone_s": round(statistics.median(times), 6),
        "agrees_with_hashlib": right,
    }


def _measure(size: int, chunk_sizes: Sequence[int], runs: int) -> dict[str, object]:
    tensors = _weights(size)
    source = torch.empty(min(size, _COPY_BYTES), dtype=torch.uint8, device="cuda").random_(0, 256)
    target = torch.empty_like(source)
    sample = _host(source[:_HASHLIB_BYTES])
    sides: dict[str, tuple[int, Callable[[], float]]] = {
        "memcpy": (source.numel(), lambda: _on_gpu(lambda: target.copy_(source))),
        "hashlib": (len(sample), lambda: _wall(lambda: _hashlib(sample))),
    }
    for chunk_bytes in chunk_sizes:
        sides |= _sides(tensors, size, chunk_bytes)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for run in range(runs + 1):
        for name, (_, side) in sides.items():
            taken = side()
            # The first of each is for caches and clocks.
            if run:
                seconds[name].append(taken)
    measured: dict[str, object] = {"bytes": size, "tensors": len(tensors)}
    return measured | {
        f"{name}_gb_s": round(sides[name][0] / statistics.median(times) / 1e9, 1)
        for name, times in seconds.items()
    }


def _sides(
    tensors: Sequence[torch.Tensor], size: int, chunk_bytes: int
) -> dict[str, tuple[int, Callable[[], float]]]:
    flats = [tensor.view(torch.uint8) for tensor in tensors]
    whole = sum(flat.numel() // chunk_bytes * chunk_bytes for flat in flats)
    return {
        f"kernel_{chunk_bytes}": (whole, lambda: _on_gpu(lambda: launch(flats, chunk_bytes))),
        f"hash_{chunk_bytes}": (
            size,
            lambda: _wall(lambda: chunk_digests_of_many(tensors, chunk_bytes)),
        ),
    }


def _weights(size: int) -> list[torch.Tensor]:
    """Return random bf16 tensors of `size` bytes in all, in the shapes of a model's layers."""
    tensors: list[torch.Tensor] = []
    left = size // 2
    while left:
        for elements in _LAYER:
            taken = min(elements, left)
            if taken:
                tensor = torch.empty(taken, dtype=torch.bfloat16, device="cuda")
                tensors.append(tensor.normal_(std=0.02))
            left -= taken
    return tensors


def _host(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.view(torch.uint8).cpu().numpy().data)


def _hashlib(data: memoryview) -> None:
    def spans() -> Iterator[memoryview]:
        for start in range(0, len(data), _SPAN_BYTES):
            yield data[start : start + _SPAN_BYTES]

    for _ in parallel_map(chunk_digests, spans()):
        pass


def _wall(work: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _on_gpu(work: Callable[[], object]) -> float:
    """Return the seconds between the beginning and the end of the work on the GPU."""
    begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1000


if __name__ == "__main__":
    main(sys.argv[1:])
