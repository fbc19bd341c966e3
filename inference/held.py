"""What a payer holds of a call in files: a receipt or a proof, and the bodies beside it.

A receipt's file is what `chat --save` writes, spaced as anybody likes; a proof's is canonical, byte
by byte. Both are foreign: bounded before they are read, and refused by the field at fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inference.audit.document import FormatError
from inference.audit.entry import Entry
from inference.proof import MAX_BODY_BYTES, MAX_BYTES, Proof, parse_proof
from inference.receipt_format import MAX_BYTES as MAX_RECEIPT_BYTES
from inference.receipts import SignedReceipt
from registry.errors import CanonicalError, ConfigError
from registry.signing.canonical import JsonValue, parse

# Spaces and line ends may make a receipt's file several times as long as its canonical bytes.
_MAX_RECEIPT_FILE: Final = 8 * MAX_RECEIPT_BYTES


@dataclass(frozen=True)
class Held:
    """One entry in a payer's hands. `signed` is None for a note, `proof` for a bare receipt."""

    entry: Entry
    signed: SignedReceipt | None
    proof: Proof | None
    request: bytes | None
    response: bytes | None


def read_held(path: Path, *, request: Path | None = None, response: Path | None = None) -> Held:
    """Read a receipt or a proof, and bodies: as given, inside the proof, or beside the receipt.

    Beside means: the same name with `.request` or `.response`. Raises `FormatError` for what is
    neither, `ConfigError` for a file that is not there.
    """
    data = read_bounded(path, MAX_BYTES)
    bodies = {
        "request": None if request is None else read_bounded(request, MAX_BODY_BYTES),
        "response": None if response is None else read_bounded(response, MAX_BODY_BYTES),
    }
    value = _parsed(data, path.name)
    if isinstance(value, Mapping) and "receipt" in value:
        signed = SignedReceipt.from_json(value)
        for name, body in bodies.items():
            bodies[name] = _beside(path, name) if body is None else body
        return Held(signed.entry(), signed, None, bodies["request"], bodies["response"])
    proof = parse_proof(data)
    kept = {"request": proof.request, "response": proof.response}
    kept |= {name: body for name, body in bodies.items() if body is not None}
    return Held(proof.entry, proof.signed, proof, kept["request"], kept["response"])


def read_receipt(path: Path) -> SignedReceipt:
    """Read a receipt's file. Raises `FormatError` for what is none, `ConfigError` without it."""
    return SignedReceipt.from_json(_parsed(read_bounded(path, _MAX_RECEIPT_FILE), path.name))


def _parsed(data: bytes, name: str) -> JsonValue:
    try:
        return parse(data, max_bytes=MAX_BYTES)
    except CanonicalError as error:
        raise FormatError(name, str(error)) from error


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a file of at most `limit` bytes, and no more of a longer one."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", hint="name a file") from error
    if len(data) > limit:
        raise FormatError(path.name, f"more than {limit} bytes")
    return data


def _beside(path: Path, name: str) -> bytes | None:
    beside = path.with_suffix(f".{name}")
    return read_bounded(beside, MAX_BODY_BYTES) if beside.exists() else None
