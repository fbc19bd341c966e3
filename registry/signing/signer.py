"""Keys that sign digests, and the recovery of who signed.

Signatures are 65 bytes r ‖ s ‖ v with v 27 or 28 and s in the lower half (EIP-2), as the
contracts demand. Keys at rest are Web3 Secret Storage (eth-account keystore) files.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

from coincurve import PrivateKey, PublicKey
from eth_utils.address import to_checksum_address

from registry.errors import KeyRefusedError, SignatureError
from registry.signing.keccak import keccak

ANVIL_CHAIN_ID: Final = 31337
# The phrase behind Anvil's and Hardhat's accounts is public; whatever they own can be taken.
_ANVIL_MNEMONIC: Final = "test test test test test test test test test test test junk"
_ANVIL_ACCOUNTS: Final = 10
_HALF_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 // 2


class Signer:
    """A private key in memory. It never appears in repr, logs or errors."""

    def __init__(self, key: bytes) -> None:
        self._key = PrivateKey(key)
        self.address: Final = _address_of(self._key.public_key)

    def __repr__(self) -> str:
        """Show the address only."""
        return f"Signer({self.address})"

    @classmethod
    def random(cls) -> Signer:
        """Make a new key from the operating system's randomness."""
        return cls(os.urandom(32))

    @classmethod
    def anvil(cls, index: int, *, chain_id: int) -> Signer:
        """Return Anvil's well-known account `index` (0 … 9); refused but on chain 31337."""
        if not 0 <= index < _ANVIL_ACCOUNTS:
            raise KeyRefusedError(f"Anvil has accounts 0 to {_ANVIL_ACCOUNTS - 1}, not {index}")
        signer = cls(_anvil_key(index))
        refuse_well_known(signer.address, chain_id)
        return signer

    @classmethod
    def from_keystore(cls, path: Path, password: str) -> Signer:
        """Open an encrypted keystore file. Raises `KeyRefusedError` when it cannot be opened."""
        from eth_account import Account  # takes half a second

        try:
            key = Account.decrypt(json.loads(path.read_text()), password)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise KeyRefusedError(
                f"cannot open keystore {path.name}: {type(error).__name__}",
                hint="check the file and the password",
            ) from None
        return cls(bytes(key))

    def to_keystore(self, path: Path, password: str) -> None:
        """Write the key as an encrypted keystore that only its owner can read.

        Raises `KeyRefusedError` when the file exists or cannot be made: a key is never lost to it.
        """
        from eth_account import Account  # takes half a second

        text = json.dumps(Account.encrypt(self._key.secret, password))
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
        except OSError as error:
            raise KeyRefusedError(
                f"cannot write keystore {path.name}: {error.strerror}",
                hint="choose another file name; keystores are never overwritten",
            ) from error

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign 32 bytes; returns r ‖ s ‖ v, 65 bytes."""
        raw = self._key.sign_recoverable(digest, hasher=None)
        return raw[:64] + bytes([raw[64] + 27])

    def secret(self) -> bytes:
        """Return the 32-byte key, for web3's transaction signing and official clients only."""
        return self._key.secret

    def derived(self, purpose: str) -> bytes:
        """Return 32 bytes that only this key's owner can know, others for each purpose.

        HMAC-SHA256 under the key: who learns them learns nothing of the key or other purposes.
        """
        return hmac.digest(self._key.secret, purpose.encode(), hashlib.sha256)


def recover(digest: bytes, signature: bytes) -> str:
    """Return the checksum address that signed `digest`.

    Raises `SignatureError` unless the signature is 65 bytes, v is 27 or 28 and s is low.
    """
    if len(signature) != 65:
        raise SignatureError(f"a signature has 65 bytes, not {len(signature)}")
    if signature[64] not in (27, 28):
        raise SignatureError(f"a signature ends in 27 or 28, not {signature[64]}")
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise SignatureError("the signature's s is in the upper half (EIP-2)")
    try:
        compact = signature[:64] + bytes([signature[64] - 27])
        return _address_of(PublicKey.from_signature_and_message(compact, digest, hasher=None))
    except Exception as error:  # coincurve raises bare Exception for points off the curve
        raise SignatureError("the signature belongs to no key") from error


def refuse_well_known(address: str, chain_id: int) -> None:
    """Raise `KeyRefusedError` for a publicly known key on any chain but Anvil's."""
    if chain_id != ANVIL_CHAIN_ID and address in well_known_addresses():
        raise KeyRefusedError(
            f"{address} is one of Anvil's published keys and chain {chain_id} is not a devnet",
            hint="make a key of your own: weightproof key FILE",
        )


@cache
def well_known_addresses() -> frozenset[str]:
    """Return the addresses of Anvil's ten published accounts."""
    return frozenset(Signer(_anvil_key(i)).address for i in range(_ANVIL_ACCOUNTS))


def _anvil_key(index: int) -> bytes:
    from eth_account import Account  # takes half a second

    Account.enable_unaudited_hdwallet_features()
    account = Account.from_mnemonic(_ANVIL_MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
    return bytes(account.key)


def _address_of(public_key: PublicKey) -> str:
    return _checksummed(keccak(public_key.format(compressed=False)[1:])[-20:])


# A checksum takes another hash, and the same payers come again and again.
@lru_cache(maxsize=4096)
def _checksummed(address: bytes) -> str:
    return str(to_checksum_address(address))
