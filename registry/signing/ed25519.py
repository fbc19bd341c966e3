"""Ed25519 (RFC 8032), for what public tools read: C2SP notes and cosignatures.

Chains recover secp256k1 signers and nothing else, so no contract and no receipt knows this key.
"""

from __future__ import annotations

from typing import Final

from Crypto.PublicKey.ECC import EccKey
from Crypto.Signature import eddsa

from registry.errors import SignatureError

SEED_BYTES: Final = 32
PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
_MODE: Final = "rfc8032"


class Ed25519Key:
    """A private key in memory. It never appears in repr, logs or errors."""

    def __init__(self, seed: bytes) -> None:
        """Take the 32 bytes of RFC 8032's private key. Raises `SignatureError`."""
        if len(seed) != SEED_BYTES:
            raise SignatureError(f"an Ed25519 key has {SEED_BYTES} bytes, not {len(seed)}")
        self._key: Final[EccKey] = eddsa.import_private_key(seed)
        self.public: Final[bytes] = self._key.public_key().export_key(format="raw")

    def __repr__(self) -> str:
        """Show the public half only."""
        return f"Ed25519Key({self.public.hex()})"

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature; the same every time."""
        return eddsa.new(self._key, _MODE).sign(message)


def verify_ed25519(public: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature. Raises `SignatureError` for one that is not by `public` (32 bytes)."""
    try:
        eddsa.new(eddsa.import_public_key(public), _MODE).verify(message, signature)
    except ValueError as error:
        raise SignatureError("the Ed25519 signature is not by this key") from error
