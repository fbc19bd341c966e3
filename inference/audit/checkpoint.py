"""Checkpoints: the signed head of the log.

The text is C2SP tlog-checkpoint: origin, size, base64 root, one line each. Two lines of signatures
follow. The first is EIP-712 over the same three values, so that `AuditAnchor` recovers the same
signer on chain. The second is Ed25519 over the text, which public tools read (`note_key`). Lines
by other keys, such as witnesses', may stand beside them and are passed over here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from inference.audit.merkle import HASH_BYTES
from inference.audit.note import (
    DASH,
    KEY_HASH_BYTES,
    KEY_NAME,
    NoteError,
    VerifierKey,
    decode_base64,
    encode_base64,
    key_hash,
    signature_line,
    signature_of,
)
from inference.audit.note_key import note_key
from registry.errors import SignatureError
from registry.signing.signer import Signer, recover
from registry.signing.typed_data import Domain, Struct

CHECKPOINT_STRUCT: Final = Struct(
    "Checkpoint", {"origin": "string", "size": "uint64", "root": "bytes32"}
)
# C2SP signed-note: 0xff marks a type without a number, a name of its own follows.
_SIGNATURE_TYPE: Final = b"\xffweightproof/eip712-checkpoint@1"
_SIGNATURE_BYTES: Final = 65
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
# Three lines and sixteen signatures fit many times over.
_MAX_NOTE_CHARS: Final = 16 * 1024
_MAX_SIGNATURES: Final = 16


class CheckpointError(NoteError):
    """A checkpoint is malformed, or not signed by whom it should be."""


@dataclass(frozen=True)
class Checkpoint:
    """The head of a log: `size` leaves under `root` (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Refuse, with `CheckpointError`, values that have no text."""
        # Our key name is the origin.
        if not KEY_NAME.fullmatch(self.origin):
            raise CheckpointError(f"{self.origin!r:.80} is not an origin: ASCII, no space, no plus")
        if isinstance(self.size, bool) or not 0 <= self.size < 1 << 63:
            raise CheckpointError(f"{self.size!r:.60} is not the size of a log")
        if len(self.root) != HASH_BYTES:
            raise CheckpointError(f"a root has {HASH_BYTES} bytes, not {len(self.root)}")

    def text(self) -> str:
        """Return the three lines that stand for the head."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"

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

    def bears(self, key: VerifierKey) -> int:
        """Check that `key` signed the note too; return when, as `VerifierKey.verify` does."""
        text, lines = parse(self.note)
        return key.verify(text.text(), lines)


def with_lines(note: str, lines: Iterable[str]) -> str:
    """Return a note with more signature lines, one a key at most, as many as it has room for."""
    _, present = parse(note)
    keys = {_key_of(line) for line in present}
    for line in lines:
        full = len(keys) >= _MAX_SIGNATURES or len(note) + len(line) >= _MAX_NOTE_CHARS
        if not full and (key := _key_of(line)) not in keys:
            keys.add(key)
            note += f"{line}\n"
    return note


def own_lines(signed: SignedCheckpoint) -> int:
    """Return how many lines bear the log's own name, by whatever key."""
    _, lines = parse(signed.note)
    return sum(_key_of(line)[0] == signed.checkpoint.origin for line in lines)


def checkpoint_domain(chain_id: int, anchor: str) -> Domain:
    """Return the EIP-712 domain of the `AuditAnchor` contract at `anchor`."""
    return Domain("Weightproof AuditAnchor", "1", chain_id, anchor)


def sign(checkpoint: Checkpoint, signer: Signer, domain: Domain) -> SignedCheckpoint:
    """Sign a head with the node's key and its note key, and write it as a note."""
    signature, origin = signer.sign_digest(checkpoint.digest(domain)), checkpoint.origin
    ours = signature_line(origin, _key_hash(origin, signer.address), signature)
    line = note_key(signer, origin).line(checkpoint.text())
    note = f"{checkpoint.text()}\n{ours}\n{line}\n"
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
    if len(rows) > _MAX_SIGNATURES or not all(row.startswith(DASH) for row in rows):
        raise CheckpointError(f"a note has 1 to {_MAX_SIGNATURES} lines that begin with a dash")
    return checkpoint, rows


def _signature_of(checkpoint: Checkpoint, lines: tuple[str, ...], node: str) -> bytes:
    try:
        signature = signature_of(lines, checkpoint.origin, _key_hash(checkpoint.origin, node))
    except NoteError as error:
        raise CheckpointError(error.message) from error
    if signature is None:
        raise CheckpointError(f"the checkpoint carries no signature by {node}")
    if len(signature) != _SIGNATURE_BYTES:
        raise CheckpointError(f"the signature line of {node} has {len(signature)} bytes")
    return signature


def _key_of(line: str) -> tuple[str, bytes]:
    name, _, payload = line.removeprefix(DASH).partition(" ")
    return name, _base64(payload)[:KEY_HASH_BYTES]


def _key_hash(name: str, node: str) -> bytes:
    """Return C2SP's four bytes for the node's Ethereum key."""
    return key_hash(name, _SIGNATURE_TYPE + bytes.fromhex(node.removeprefix("0x")))


def _base64(text: str) -> bytes:
    try:
        return decode_base64(text)
    except NoteError as error:
        raise CheckpointError(error.message) from error
