"""safetensors files written byte by byte, so that any part of them can be wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Parts:
    """A file taken apart: its header as JSON, and the bytes behind it."""

    header: dict[str, Any]
    body: bytes

    @property
    def last(self) -> str:
        """The tensor whose bytes lie last."""
        return max(self.header, key=lambda name: self.header[name]["data_offsets"][1])

    @property
    def first(self) -> str:
        """The tensor whose bytes lie first."""
        return min(self.header, key=lambda name: self.header[name]["data_offsets"][0])


def taken_apart(path: Path) -> Parts:
    """Read an honest file; its metadata is left out."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    return Parts(header, data[begin:])


def joined(header: Mapping[str, Any] | bytes, body: bytes, *, length: int | None = None) -> bytes:
    """Return a file; `length` is what it says its header's length is."""
    text = header if isinstance(header, bytes) else written(header)
    said = len(text) if length is None else length
    return said.to_bytes(8, "little") + text + body


def written(header: Mapping[str, Any]) -> bytes:
    """Return a header as the library writes it: without spaces."""
    return json.dumps(header, separators=(",", ":")).encode()


def library_reads(data: bytes) -> dict[str, Any]:
    """Return the tensors that the safetensors library itself finds. Raises its error."""
    return dict(safetensors.torch.load(data))
