"""Resident digests: tensors hashed where they lie, in main memory or on the GPU.

What is hashed is what computes: the parameters and buffers that the module holds at this moment.
A difference between them and the manifest means that the loader erred, that another program reads
the file otherwise, or that memory changed since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from random import Random
from typing import Final

import torch

from inference.engine.dtypes import NAMES
from inference.errors import ModelStoppedError
from registry.hashing.parallel import parallel_map
from registry.hashing.weights import TENSOR_CHUNK_BYTES, chunk_digests, digest_of_chunks

_DOMAIN: Final = b"weightproof/resident@1\0"
# What one thread hashes at a time; a multiple of the chunk, so that chunks are not cut.
_SPAN_BYTES: Final = 256 * TENSOR_CHUNK_BYTES


class ResidentTensors:
    """The tensors of a loaded module and what they must hash to.

    `promised` are the manifest's tensor digests by parameter name. Buffers that follow from the
    configuration are in no manifest; their digests are taken here, so that a later change of them
    is found like any other.
    """

    def __init__(self, module: torch.nn.Module, promised: Mapping[str, bytes]) -> None:
        self._module = module
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

    def changed(self, names: Iterable[str] | None = None) -> str | None:
        """Hash the named tensors, or all; return the name of one that is not as it must be."""
        if names is None:
            surplus = self._tensors().keys() - self._expected.keys()
            if surplus:
                return min(surplus)
            names = self._expected
        for name, digest in self._hash(names):
            if digest != self._expected.get(name):
                return name
        return None

    def check(self, names: Iterable[str] | None = None) -> None:
        """Raise `ModelStoppedError` that names a tensor which changed in memory."""
        name = self.changed(names)
        if name is not None:
            raise ModelStoppedError(f"tensor {name} changed in memory since it was loaded")

    def sample(self, count: int, rng: Random) -> tuple[str, ...]:
        """Check `count` tensors drawn by `rng`; return their names. Raises like `check`."""
        drawn = tuple(rng.sample(sorted(self._expected), min(count, len(self._expected))))
        self.check(drawn)
        return drawn

    def _tensors(self) -> dict[str, torch.Tensor]:
        # A tied parameter is one tensor with two names and is listed under the first.
        return dict(self._module.named_parameters()) | dict(self._module.named_buffers())

    def _hash(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        tensors = self._tensors()
        found = [(name, tensors.get(name)) for name in names]
        digests = tensor_digests(tensor for _, tensor in found if tensor is not None)
        for name, tensor in found:
            yield name, b"" if tensor is None else next(digests)


def tensor_digests(tensors: Iterable[torch.Tensor]) -> Iterator[bytes]:
    """Yield the digests of tensors as they lie, by the rule of `registry.hashing.weights`.

    All processors hash; what lies on a GPU is copied to main memory a tensor at a time.
    """
    listed = list(tensors)
    chunks = parallel_map(chunk_digests, (span for tensor in listed for span in _spans(tensor)))
    for tensor in listed:
        count = -(-tensor.nbytes // _SPAN_BYTES)
        of_tensor = b"".join(islice(chunks, count))
        shape = tuple(tensor.shape)
        yield digest_of_chunks(NAMES[tensor.dtype], shape, tensor.nbytes, of_tensor)


def resident_digest(digests: Mapping[str, bytes]) -> bytes:
    """Return one digest over tensors by name.

    SHA-256("weightproof/resident@1" 00 ‖ for each name in byte order: u16 length of the name,
    little-endian ‖ name in UTF-8 ‖ its 32-byte tensor digest). A manifest alone gives it too.
    """
    hashed = hashlib.sha256(_DOMAIN)
    for name, digest in sorted((name.encode(), digest) for name, digest in digests.items()):
        hashed.update(len(name).to_bytes(2, "little") + name + digest)
    return hashed.digest()


def _spans(tensor: torch.Tensor) -> Iterator[memoryview]:
    flat = tensor.detach().reshape(-1).view(torch.uint8).cpu()
    data = memoryview(flat.numpy().data)
    for start in range(0, len(data), _SPAN_BYTES):
        yield data[start : start + _SPAN_BYTES]
