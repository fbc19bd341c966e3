"""The key file of a witness of heads: one line, `PRIVATE+KEY+name+hash+base64(0x01 ‖ key)`.

Other tools for C2SP notes write and read the same line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from inference.audit.note import ED25519, NoteError, NoteKey, decode_base64, encode_base64
from registry.errors import KeyRefusedError
from registry.signing.ed25519 import SEED_BYTES, Ed25519Key

_PRIVATE: Final = "PRIVATE+KEY+"


def open_key(path: Path, name: str) -> NoteKey:
    """Open the key called `name`, or make it, in a file that only its owner can read.

    Raises `KeyRefusedError`, never with a word of what the file holds, and `NoteError` for a name
    that no key can have.
    """
    try:
        return _make(path, name)
    except FileExistsError:
        pass
    except OSError as error:
        raise KeyRefusedError(f"cannot write the key {path.name}: {error.strerror}") from error
    try:
        if path.stat().st_mode & 0o077:
            raise KeyRefusedError(f"others can read {path.name}", hint=f"chmod 600 {path.name}")
        return _parsed(path.read_text().strip(), name)
    except (OSError, NoteError, UnicodeDecodeError):
        # Without its cause: that could show what the file holds.
        raise KeyRefusedError(
            f"cannot open the key {path.name}", hint=f"it is no file of a key named {name}"
        ) from None


def _make(path: Path, name: str) -> NoteKey:
    seed = os.urandom(SEED_BYTES)
    key = NoteKey(name, Ed25519Key(seed))
    secret = encode_base64(bytes([ED25519]) + seed)
    line = f"{_PRIVATE}{name}+{key.verifier.key_hash.hex()}+{secret}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return key


def _parsed(line: str, name: str) -> NoteKey:
    found, _, rest = line.removeprefix(_PRIVATE).partition("+")
    hashed, _, secret = rest.partition("+")
    data = decode_base64(secret)
    if not line.startswith(_PRIVATE) or found != name or len(data) != 1 + SEED_BYTES:
        raise NoteError("another key")
    key = NoteKey(name, Ed25519Key(data[1:]))
    if data[0] != ED25519 or hashed != key.verifier.key_hash.hex():
        raise NoteError("another key")
    return key
