"""Resident digests: tensors hashed where they lie, in main memory or on the GPU.

What is hashed is what computes: the parameters and buffers that the module holds at this moment.
A difference between them and the manifest means that the loader erred, that another program reads
the file otherwise, or that memory changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, TypeAlias

import torch

from inference.engine.dtypes import NAMES
from inference.engine.placement import Placed, bytes_of
from inference.errors import LoadRefusedError, ModelStoppedError
from registry.hashing.finite import finite_fault
from registry.hashing.parallel import parallel_map
from registry.hashing.resident_digest import resident_digest
from registry.hashing.weights import TENSOR_2, TensorRule, chunk_digests, digest_of_chunks
from registry.manifest_parts import TensorEntry

# What one thread hashes at a time, in chunks, so that chunks are not cut.
_SPAN_CHUNKS: Final = 64
# What is hashed in one go beside running calls: half a millisecond of a processor.
_BITE_CHUNKS: Final = 16
# Told how many bytes were hashed; may take its time, and may raise.
Breathe: TypeAlias = Callable[[int], None]


class ResidentTensors:
    """The tensors of a loaded module and what they must hash to.

    `promised` are the manifest's tensor digests by parameter name, computed by `rule`. Buffers that
    follow from the configuration are in no manifest; their digests are taken here, so that a later
    change of them is found like any other. `places` says where tensors lie in the module whose
    promised name is another one.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        promised: Mapping[str, bytes],
        rule: TensorRule = TENSOR_2,
        places: Mapping[str, str] | None = None,
    ) -> None:
        self._module = module
        self._places = dict(places or {})
        self._names = {place: name for name, place in self._places.items()}
        self._rule = rule
        self._expected = dict(promised)
        derived = [name for name in self._tensors() if name not in promised]
        self._expected |= dict(self._hash(derived))
        self._digest = resident_digest(promised)

    @property
    def digest(self) -> bytes:
        """The 32 bytes a receipt states: one digest over the names and digests of all tensors."""
        return self._digest

    @property
    def names(self) -> tuple[str, ...]:
        """The names of everything that is checked."""
        return tuple(self._expected)

    def nbytes(self, name: str) -> int:
        """Return how many bytes a tensor takes; 0 for one that is gone."""
        tensor = self._tensor(name)
        return 0 if tensor is None else tensor.nbytes

    def hashes(self, names: Iterable[str]) -> dict[str, bytes]:
        """Hash the named tensors where they lie; empty bytes stand for one that is gone."""
        return dict(self._hash(names))

    def surplus(self) -> set[str]:
        """Return what the module holds now and did not hold when it was loaded."""
        return self._tensors().keys() - self._expected.keys()

    def changed(
        self, names: Iterable[str] | None = None, breathe: Breathe | None = None
    ) -> str | None:
        """Hash the named tensors, or all; return the name of one that is not as it must be.

        With `breathe`, main memory is hashed in small bites on the caller's thread alone, and
        `breathe` is called after each.
        """
        if names is None:
            if surplus := self.surplus():
                return min(surplus)
            names = self._expected
        for name, digest in self._hash(names, breathe):
            if digest != self._expected.get(name):
                return name
        return None

    def check(self, names: Iterable[str] | None = None, breathe: Breathe | None = None) -> None:
        """Raise `ModelStoppedError` that names a tensor which changed in memory."""
        name = self.changed(names, breathe)
        if name is not None:
            raise ModelStoppedError(f"tensor {name} changed in memory since it was loaded")

    def _tensors(self) -> dict[str, torch.Tensor]:
        # A tied parameter is one tensor with two names and is listed under the first.
        held = dict(self._module.named_parameters()) | dict(self._module.named_buffers())
        return {self._names.get(place, place): tensor for place, tensor in held.items()}

    def _tensor(self, name: str) -> torch.Tensor | None:
        # Looked up by its path: listing all tensors for each would take longer than hashing one.
        owner, _, attribute = self._places.get(name, name).rpartition(".")
        try:
            module = self._module.get_submodule(owner)
        except AttributeError:
            return None
        found = module._parameters.get(attribute)
        return module._buffers.get(attribute) if found is None else found

    def _hash(
        self, names: Iterable[str], breathe: Breathe | None = None
    ) -> Iterator[tuple[str, bytes]]:
        found = [(name, self._tensor(name)) for name in names]
        present = [tensor for _, tensor in found if tensor is not None]
        digests = tensor_digests(present, self._rule, breathe)
        for name, tensor in found:
            yield name, b"" if tensor is None else next(digests)


def tensor_digests(
    tensors: Iterable[torch.Tensor],
    rule: TensorRule = TENSOR_2,
    breathe: Breathe | None = None,
) -> Iterator[bytes]:
    """Yield the digests of tensors as they lie, by the rule of `registry.hashing.weights`.

    Main memory is hashed by all processors, or in bites where `breathe` is given; a GPU's memory
    by the GPU.
    """
    listed = list(tensors)
    on_gpu = [tensor for tensor in listed if tensor.is_cuda]
    in_memory = [tensor for tensor in listed if not tensor.is_cuda]
    if breathe is None:
        elsewhere = _chunks_on_cpu(in_memory, rule)
    else:
        elsewhere = _chunks_in_bites(in_memory, rule, breathe)
    there = _chunks_on_gpu(on_gpu, rule)
    for tensor in listed:
        chunks = next(there if tensor.is_cuda else elsewhere)
        shape = tuple(tensor.shape)
        yield digest_of_chunks(NAMES[tensor.dtype], shape, tensor.nbytes, chunks, rule=rule)


def check_placed(
    placed: Mapping[str, Placed], entries: tuple[TensorEntry, ...], rule: TensorRule
) -> None:
    """Compare what was just placed in memory with the manifest.

    Raises `LoadRefusedError` that names file and tensor: other bytes, NaN, infinity, only dust.
    """
    digests = _placed_digests(placed, rule)
    for entry in entries:
        found = placed[entry.name]
        if digests[entry.name] != entry.digest:
            raise LoadRefusedError(
                entry.file, f"tensor {entry.name} does not hash to what the manifest lists"
            )
        if fault := finite_fault(entry.dtype, found.magnitude):
            raise LoadRefusedError(entry.file, f"tensor {entry.name} {fault}")


def same_place(held: torch.Tensor, placed: torch.Tensor) -> bool:
    """Return whether two tensors are one: the same bytes of memory, read in the same way."""
    return (
        held.data_ptr() == placed.data_ptr()
        and held.device == placed.device
        and held.dtype == placed.dtype
        and held.shape == placed.shape
        and held.stride() == placed.stride()
    )


def _chunks_on_gpu(tensors: list[torch.Tensor], rule: TensorRule) -> Iterator[bytes]:
    if tensors:
        # Triton comes with torch for GPUs, and is not there without one.
        from inference.engine.sha256_kernel import chunk_digests_of_many

        yield from chunk_digests_of_many([_flat(tensor) for tensor in tensors], rule.chunk_bytes)


def _chunks_on_cpu(tensors: list[torch.Tensor], rule: TensorRule) -> Iterator[bytes]:
    width = _SPAN_CHUNKS * rule.chunk_bytes
    views = [bytes_of(tensor) for tensor in tensors]
    spans = (view[at : at + width] for view in views for at in range(0, len(view), width))
    chunks = parallel_map(lambda span: chunk_digests(span, rule.chunk_bytes), spans)
    for view in views:
        yield b"".join(islice(chunks, -(-len(view) // width)))


def _chunks_in_bites(
    tensors: list[torch.Tensor], rule: TensorRule, breathe: Breathe
) -> Iterator[bytes]:
    width = _BITE_CHUNKS * rule.chunk_bytes
    for tensor in tensors:
        view, parts = bytes_of(tensor), []
        for at in range(0, len(view), width):
            bite = view[at : at + width]
            parts.append(chunk_digests(bite, rule.chunk_bytes))
            breathe(len(bite))
        yield b"".join(parts)


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().reshape(-1).view(torch.uint8)


def _placed_digests(placed: Mapping[str, Placed], rule: TensorRule) -> dict[str, bytes]:
    """Return the digests taken while the tensors were placed, or take them now on a GPU."""
    later = [name for name, found in placed.items() if found.tensor.is_cuda]
    taken = tensor_digests([placed[name].tensor for name in later], rule)
    digests = dict(zip(later, taken, strict=True))
    return {name: digests.get(name) or found.digest(rule) for name, found in placed.items()}
