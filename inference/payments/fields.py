"""One foreign JSON object, read field by field; whatever is not exactly as expected is refused.

The caller says which error a wrong field becomes, because x402 has a code for each payload.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from eth_utils.address import to_checksum_address

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_BYTES32: Final = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
_HEX: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]{1,78}", re.ASCII)
# Wallet signatures are 65 bytes; wrapped ones of smart wallets a few thousand.
_MAX_HEX: Final = 2 + 2 * 8192


class Fields:
    """An object's fields. `refuse` makes the error for a sentence about what is wrong."""

    def __init__(self, value: object, name: str, refuse: Callable[[str], Exception]) -> None:
        self._refuse: Final = refuse
        self._name: Final = name
        if not isinstance(value, Mapping):
            raise refuse(f"{name} must be an object")
        self._value: Final[Mapping[str, object]] = value

    def refusing(self, refuse: Callable[[str], Exception]) -> Fields:
        """Return the same fields with another error."""
        return Fields(self._value, self._name, refuse)

    def has(self, name: str) -> bool:
        """Say whether the field is there; null counts as absent."""
        return self._value.get(name) is not None

    def nested(self, name: str) -> Fields:
        """Return a nested object, to be read field by field."""
        return Fields(self._get(name), f"{self._name}.{name}", self._refuse)

    def mapping(self, name: str) -> dict[str, object]:
        """Return a nested object as it is, empty when absent."""
        if not self.has(name):
            return {}
        value = self._get(name)
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return value

    def text(self, name: str, *, max_length: int = 2048) -> str:
        """Return a string of at most `max_length` characters."""
        value = self._get(name)
        if not isinstance(value, str) or len(value) > max_length:
            raise self._wrong(name, f"a string of at most {max_length} characters")
        return value

    def integer(self, name: str, *, high: int) -> int:
        """Return a JSON integer within 0 … `high`."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
            raise self._wrong(name, f"an integer from 0 to {high}")
        return value

    def amount(self, name: str, *, bits: int) -> int:
        """Return an unsigned integer written as decimal digits, as x402 writes amounts."""
        value = self._get(name)
        if not isinstance(value, str) or not _DIGITS.fullmatch(value) or int(value) >> bits:
            raise self._wrong(name, f"the decimal digits of a uint{bits}, as a string")
        return int(value)

    def address(self, name: str) -> str:
        """Return an address with its checksum, however it was capitalised."""
        value = self._get(name)
        if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
            raise self._wrong(name, "a 0x address of 20 bytes")
        return checksummed(value)

    def bytes32(self, name: str) -> bytes:
        """Return 32 bytes."""
        value = self._get(name)
        if not isinstance(value, str) or not _BYTES32.fullmatch(value):
            raise self._wrong(name, "0x and 64 hex digits")
        return bytes.fromhex(value[2:])

    def hex(self, name: str) -> bytes:
        """Return bytes of any length up to 8192."""
        value = self._get(name)
        if not isinstance(value, str) or len(value) > _MAX_HEX or not _HEX.fullmatch(value):
            raise self._wrong(name, "0x and an even number of hex digits")
        return bytes.fromhex(value[2:])

    def _get(self, name: str) -> object:
        if not self.has(name):
            raise self._refuse(f"{self._name}.{name} is missing")
        return self._value[name]

    def _wrong(self, name: str, expected: str) -> Exception:
        return self._refuse(f"{self._name}.{name} must be {expected}")


@lru_cache(maxsize=4096)
def checksummed(address: str) -> str:
    """Return the EIP-55 form. Cached: one keccak an address would lead the cost of a voucher."""
    return str(to_checksum_address(address))
