"""C2SP signed notes: verifier keys, signature lines, and witnesses' cosignatures.

A note is text, an empty line, and lines `— <key name> <base64(key hash ‖ signature)>`. The key
hash is SHA-256(name ‖ 0x0A ‖ kind ‖ public key)[:4], so a reader finds the lines of the keys that
it knows and passes over all others. A verifier key is written `name+hash+base64(kind ‖ key)`.

Two kinds are known: 0x01 signs the text; 0x04, a witness's cosignature/v1, signs when it saw the
text and the text. Sources: C2SP signed-note, tlog-cosignature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from inference.errors import NodeError
from registry.errors import SignatureError
from registry.signing.ed25519 import (
    PUBLIC_BYTES,
    SIGNATURE_BYTES,
    Ed25519Key,
    verify_ed25519,
)

ED25519: Final = 0x01
COSIGNATURE: Final = 0x04
DASH: Final = "— "
KEY_HASH_BYTES: Final = 4
# C2SP forbids spaces and plus signs in key names.
KEY_NAME: Final = re.compile(r"[!-*,-~]{1,200}", re.ASCII)
_VKEY: Final = re.compile(r"([!-*,-~]{1,200})\+([0-9a-f]{8})\+([A-Za-z0-9+/=]{1,100})", re.ASCII)
_TIME_BYTES: Final = 8


class NoteError(NodeError):
    """A note is malformed, or not signed by whom it should be."""

    status = 400
    exit_code = 6


@dataclass(frozen=True)
class VerifierKey:
    """A public key (32 bytes) with its name and kind, `ED25519` or `COSIGNATURE`."""

    name: str
    kind: int
    public: bytes

    def __post_init__(self) -> None:
        """Refuse, with `NoteError`, what no line could name."""
        if not KEY_NAME.fullmatch(self.name):
            raise NoteError(f"{self.name!r:.80} is not a key name: ASCII, no space, no plus")
        if self.kind not in (ED25519, COSIGNATURE) or len(self.public) != PUBLIC_BYTES:
            raise NoteError(f"the key of {self.name} is of a kind not known here")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name+hash+base64`. Raises `NoteError`, also where the hash is another key's."""
        match = _VKEY.fullmatch(text)
        if match is None:
            raise NoteError(f"{text!r:.80} is not a verifier key: name+hash+base64")
        data = decode_base64(match[3])
        key = cls(match[1], data[0] if data else 0, data[1:])
        if key.key_hash.hex() != match[2]:
            raise NoteError(f"the hash {match[2]} in {text!r:.80} is another key's")
        return key

    @property
    def key_hash(self) -> bytes:
        """The four bytes that tell keys of one name apart."""
        return key_hash(self.name, bytes([self.kind]) + self.public)

    @property
    def text(self) -> str:
        """The key as it is published."""
        data = encode_base64(bytes([self.kind]) + self.public)
        return f"{self.name}+{self.key_hash.hex()}+{data}"

    def verify(self, text: str, lines: Iterable[str]) -> int:
        """Check that this key signed `text` by one of the lines.

        Returns when it did, in unix seconds, which only cosignatures tell: else 0. Raises
        `NoteError` where no line is the key's, and for the first of its lines that is false.
        """
        signature = signature_of(lines, self.name, self.key_hash)
        if signature is None:
            raise NoteError(f"the note carries no signature by {self.name}")
        stamp = _TIME_BYTES if self.kind == COSIGNATURE else 0
        if len(signature) != stamp + SIGNATURE_BYTES:
            raise NoteError(f"the signature line of {self.name} has {len(signature)} bytes")
        seen_at = int.from_bytes(signature[:stamp], "big")
        message = _cosigned(text, seen_at) if stamp else text.encode()
        try:
            verify_ed25519(self.public, message, signature[stamp:])
        except SignatureError as error:
            raise NoteError(f"the signature line of {self.name}: {error.message}") from error
        return seen_at


@dataclass(frozen=True)
class NoteKey:
    """A private key under its name; signs as a log (0x01) and as a witness (0x04)."""

    name: str
    key: Ed25519Key

    @property
    def verifier(self) -> VerifierKey:
        """What reads this key's signatures."""
        return VerifierKey(self.name, ED25519, self.key.public)

    @property
    def cosigner(self) -> VerifierKey:
        """What reads this key's cosignatures."""
        return VerifierKey(self.name, COSIGNATURE, self.key.public)

    def is_in(self, note: str) -> bool:
        """Say whether a note of our own has a line by this key."""
        return f"{DASH}{self.name} {encode_base64(self.verifier.key_hash)[:5]}" in note

    def line(self, text: str) -> str:
        """Sign a note's text."""
        return signature_line(self.name, self.verifier.key_hash, self.key.sign(text.encode()))

    def cosignature(self, text: str, seen_at: int) -> str:
        """Sign that the text was seen, consistent with all before it, at unix second `seen_at`."""
        stamp = seen_at.to_bytes(_TIME_BYTES, "big")
        signature = self.key.sign(_cosigned(text, seen_at))
        return signature_line(self.name, self.cosigner.key_hash, stamp + signature)


def key_hash(name: str, key: bytes) -> bytes:
    """Return C2SP's four bytes for a key, its kind before it."""
    return hashlib.sha256(name.encode() + b"\n" + key).digest()[:KEY_HASH_BYTES]


def signature_line(name: str, hash_: bytes, signature: bytes) -> str:
    """Write a signature line, without its newline."""
    return f"{DASH}{name} {encode_base64(hash_ + signature)}"


def signature_of(lines: Iterable[str], name: str, hash_: bytes) -> bytes | None:
    """Return the signature by a key, None where no line is its own. Raises `NoteError`."""
    for line in lines:
        found, space, payload = line.removeprefix(DASH).partition(" ")
        if not space or not line.startswith(DASH):
            raise NoteError("a signature line has a dash, a name and base64")
        data = decode_base64(payload)
        if found == name and data[:KEY_HASH_BYTES] == hash_:
            return data[KEY_HASH_BYTES:]
    return None


def encode_base64(data: bytes) -> str:
    """Return the one base64 text of these bytes."""
    return base64.b64encode(data).decode()


def decode_base64(text: str) -> bytes:
    """Read base64 in its one canonical spelling. Raises `NoteError`."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError(f"{text!r:.80} is not base64") from error
    if encode_base64(data) != text:
        raise NoteError(f"{text!r:.80} is not canonical base64")
    return data


def _cosigned(text: str, seen_at: int) -> bytes:
    return f"cosignature/v1\ntime {seen_at}\n{text}".encode()
