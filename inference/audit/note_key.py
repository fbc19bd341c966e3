"""The node's Ed25519 key, for readers of C2SP notes that know no Ethereum signatures.

**Where it comes from.** It is derived from the node's own key, once per origin, by HMAC-SHA256.
Nothing new has to be kept, backed up or shared: nodes on one database have one key, and whoever
restores the node's keystore has this one again. A key file of its own could be lost, and a second
node would make another one. Derived from a *signature* over a fixed text it would be anybody's who
gets that text signed or sees the signature once; an HMAC leaves no such copy. The derivation goes
one way: who steals this key can sign notes, and neither receipts nor transactions.

**Whose it is.** The node's Ethereum key signs `NoteKey(origin, vkey)` (EIP-712, in the domain of
its AuditAnchor contract), and `/v1/log` shows both. So whoever knows the node's address knows the
verifier key to configure a public tool with, and a note by it is a statement of that node.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from inference.audit.note import ED25519, NoteError, NoteKey, VerifierKey
from registry.errors import SignatureError
from registry.signing.ed25519 import Ed25519Key
from registry.signing.signer import Signer, recover
from registry.signing.typed_data import Domain, Struct

_PURPOSE: Final = "weightproof/note-key@1"
_STRUCT: Final = Struct("NoteKey", {"origin": "string", "vkey": "string"})


# Deriving takes a millisecond, and every checkpoint of a log is signed by the same key.
@lru_cache(maxsize=16)
def note_key(signer: Signer, origin: str) -> NoteKey:
    """Return the node's key for the notes of its log `origin`."""
    return NoteKey(origin, Ed25519Key(signer.derived(f"{_PURPOSE}\n{origin}")))


def bind(signer: Signer, origin: str, domain: Domain) -> tuple[str, bytes]:
    """Return the verifier key of a node's notes and the node's signature (65 bytes) over it."""
    vkey = note_key(signer, origin).verifier.text
    return vkey, signer.sign_digest(_digest(origin, vkey, domain))


def bound_key(vkey: str, signature: bytes, node: str, origin: str, domain: Domain) -> VerifierKey:
    """Return the key that `node` says its log `origin` signs notes with. Raises `NoteError`."""
    key = VerifierKey.parse(vkey)
    if key.kind != ED25519 or key.name != origin:
        raise NoteError(f"{vkey!r:.80} is not the key of the log {origin}")
    try:
        signer = recover(_digest(origin, vkey, domain), signature)
    except SignatureError as error:
        raise NoteError(f"the statement about {vkey!r:.80}: {error.message}") from error
    if signer != node:
        raise NoteError(f"{signer} states the key {vkey!r:.80}, not {node}")
    return key


def _digest(origin: str, vkey: str, domain: Domain) -> bytes:
    return _STRUCT.digest(domain.separator(), {"origin": origin, "vkey": vkey})
