"""The GPU's hash under Triton's interpreter, which runs a kernel's logic without any GPU.

Triton decides when it is imported whether it compiles or interprets, so this runs in a process of
its own: `prepare` is the first thing that process does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from inference.engine import sha256_kernel


@dataclass(frozen=True)
class Piece:
    """The bytes of a tensor, how many bytes behind a multiple of 64 they begin, and its view."""

    data: bytes
    offset: int = 0
    dtype: str = "uint8"
    transposed: bool = False

    def tensor(self) -> torch.Tensor:
        storage = torch.zeros(self.offset + len(self.data), dtype=torch.uint8)
        placed = storage[self.offset :]
        if self.data:
            assert placed.data_ptr() % 64 == self.offset % 64
            placed.copy_(torch.frombuffer(bytearray(self.data), dtype=torch.uint8))
        viewed = placed.view(getattr(torch, self.dtype))
        return viewed.view(2, -1).t() if self.transposed else viewed


def prepare() -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    from triton.runtime.interpreter import interpreter_builder

    torch.set_num_threads(1)
    # Sums beyond 2^32 are meant: launches say so on a GPU, but the interpreter does not read that.
    # `debug` makes it check the kernel's assertion.
    interpreter_builder.options = replace(
        interpreter_builder.options, sanitize_overflow=False, debug=True
    )


def digests(pieces: Sequence[Piece], chunk_bytes: int) -> list[bytes]:
    return sha256_kernel.chunk_digests_of_many([piece.tensor() for piece in pieces], chunk_bytes)


def digests_of_one(piece: Piece, chunk_bytes: int) -> bytes:
    return sha256_kernel.chunk_digests(piece.tensor(), chunk_bytes)


def known_answer(chunk_bytes: int) -> None:
    sha256_kernel.prepare(torch.device("cpu"), chunk_bytes)
