"""Checkpoints: the signed head of the log.

The text is C2SP tlog-checkpoint: origin, size, base64 root, one line each. The signature is
EIP-712 over the same three values, so that `AuditAnchor` recovers the same signer on chain; it
travels as a C2SP signed-note line `— <origin> <base64(key hash ‖ signature)>`. Lines by other
keys (witnesses, Ed25519) may stand beside it and are passed over here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from inference.audit.merkle import HASH_BYTES
from inference.errors import NodeError
from registry.errors import SignatureError
from registry.signing.signer import Signer, recover
from registry.signing.typed_data import Domain, Struct

CHECKPOINT_STRUCT: Final = Struct(
    "Checkpoint", {"origin": "string", "size": "uint64", "root": "bytes32"}
)
# C2SP signed-note: 0xff marks a type without a number, a name of its own follows.
_SIGNATURE_TYPE: Final = b"\xffweightproof/eip712-checkpoint@1"
_KEY_HASH_BYTES: Final = 4
_SIGNATURE_BYTES: Final = 65
# C2SP forbids spaces and plus signs in key names; our key name is the origin.
_ORIGIN: Final = re.compile(r"[!-*,-~]{1,200}", re.ASCII)
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
# Three lines and sixteen signatures fit many times over.
_MAX_NOTE_CHARS: Final = 16 * 1024
_MAX_SIGNATURES: Final = 16


class CheckpointError(NodeError):
    """A checkpoint is malformed, or not signed by whom it should be."""

    exit_code = 6


@dataclass(frozen=True)
class Checkpoint:
    """The head of a log: `size` leaves under `root` (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Refuse, with `CheckpointError`, values that have no text."""
        if not _ORIGIN.fullmatch(self.origin):
            raise CheckpointError(f"{self.origin!r:.80} is not an origin: ASCII, no space, no plus")
        if isinstance(self.size, bool) or not 0 <= self.size < 1 << 63:
            raise CheckpointError(f"{self.size!r:.60} is not the size of a log")
        if len(self.root) != HASH_BYTES:
            raise CheckpointError(f"a root has {HASH_BYTES} bytes, not {len(self.root)}")

    def text(self) -> str:
        """Return the three lines that stand for the head."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def digest(self, domain: Domain) -> bytes:
        """Return the 32 bytes that are signed."""
        values = {"origin": self.origin, "size": self.size, "root": self.root}
        return CHECKPOINT_STRUCT.digest(domain.separator(), values)


@dataclass(frozen=True)
class SignedCheckpoint:
    """A checkpoint with the node's signature (65 bytes) and the note both travel in."""

    checkpoint: Checkpoint
    signature: bytes
    node: str
    note: str


def checkpoint_domain(chain_id: int, anchor: str) -> Domain:
    """Return the EIP-712 domain of the `AuditAnchor` contract at `anchor`."""
    return Domain("Weightproof AuditAnchor", "1", chain_id, anchor)


def sign(checkpoint: Checkpoint, signer: Signer, domain: Domain) -> SignedCheckpoint:
    """Sign a head and write it as a note."""
    signature = signer.sign_digest(checkpoint.digest(domain))
    line = base64.b64encode(_key_hash(checkpoint.origin, signer.address) + signature).decode()
    note = f"{checkpoint.text()}\n— {checkpoint.origin} {line}\n"
    return SignedCheckpoint(checkpoint, signature, signer.address, note)


def verify(note: str, node: str, domain: Domain, *, origin: str | None = None) -> SignedCheckpoint:
    """Read a note and check that `node` signed it (and that it is the log `origin`).

    Raises `CheckpointError` with the reason.
    """
    checkpoint, lines = parse(note)
    if origin is not None and checkpoint.origin != origin:
        raise CheckpointError(f"a checkpoint of log {checkpoint.origin!r}, not of {origin!r}")
    signature = _signature_of(checkpoint, lines, node)
    try:
        signer = recover(checkpoint.digest(domain), signature)
    except SignatureError as error:
        raise CheckpointError(f"the checkpoint's signature: {error}") from error
    if signer != node:
        raise CheckpointError(f"the checkpoint is signed by {signer}, not by {node}")
    return SignedCheckpoint(checkpoint, signature, node, note)


def parse(note: str) -> tuple[Checkpoint, tuple[str, ...]]:
    """Split a note into its checkpoint and its signature lines, unverified."""
    if len(note) > _MAX_NOTE_CHARS:
        raise CheckpointError(f"a note of {len(note)} characters, more than {_MAX_NOTE_CHARS}")
    text, blank, signatures = note.partition("\n\n")
    lines = text.split("\n")
    if not blank or len(lines) != 3 or not signatures.endswith("\n"):
        raise CheckpointError("not a note: origin, size, root, an empty line, signatures")
    if not _SIZE.fullmatch(lines[1]):
        raise CheckpointError(f"{lines[1]!r:.60} is not the size of a log")
    checkpoint = Checkpoint(lines[0], int(lines[1]), _base64(lines[2]))
    rows = tuple(signatures[:-1].split("\n"))
    if len(rows) > _MAX_SIGNATURES or not all(row.startswith("— ") for row in rows):
        raise CheckpointError(f"a note has 1 to {_MAX_SIGNATURES} lines that begin with a dash")
    return checkpoint, rows


def _signature_of(checkpoint: Checkpoint, lines: tuple[str, ...], node: str) -> bytes:
    wanted = _key_hash(checkpoint.origin, node)
    for line in lines:
        name, space, payload = line[2:].partition(" ")
        if not space:
            raise CheckpointError("a signature line has a name and base64")
        data = _base64(payload)
        if name == checkpoint.origin and data[:_KEY_HASH_BYTES] == wanted:
            if len(data) != _KEY_HASH_BYTES + _SIGNATURE_BYTES:
                raise CheckpointError(f"the signature line of {node} has {len(data)} bytes")
            return data[_KEY_HASH_BYTES:]
    raise CheckpointError(f"the checkpoint carries no signature by {node}")


def _key_hash(name: str, node: str) -> bytes:
    """Return C2SP's four bytes that tell keys apart."""
    public = bytes.fromhex(node.removeprefix("0x"))
    return hashlib.sha256(name.encode() + b"\n" + _SIGNATURE_TYPE + public).digest()[:4]


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CheckpointError(f"{text!r:.80} is not base64") from error
    if base64.b64encode(data).decode() != text:
        raise CheckpointError(f"{text!r:.80} is not canonical base64")
    return data
