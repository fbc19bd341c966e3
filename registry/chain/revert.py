"""What a contract said when it refused: custom errors, `require` messages and panics, as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError, InsufficientDataBytes
from eth_utils.address import to_checksum_address

from registry.chain.artifact import abi_type, errors_by_selector

_ERROR_STRING: Final = bytes.fromhex("08c379a0")  # Error(string), what require() gives
_PANIC: Final = bytes.fromhex("4e487b71")  # Panic(uint256), what the compiler inserts


@dataclass(frozen=True)
class Revert:
    """A decoded refusal. `error` is the custom error's name or empty; `values` its arguments."""

    text: str
    error: str = ""
    values: tuple[object, ...] = ()


def decode_revert(data: object) -> Revert:
    """Decode revert data as RPC endpoints send it (a 0x string or bytes); never raises."""
    raw = _to_bytes(data)
    selector, rest = raw[:4], raw[4:]
    item = errors_by_selector().get(selector)
    try:
        if selector == _ERROR_STRING:
            return Revert(str(decode(["string"], rest)[0]))
        if selector == _PANIC:
            return Revert(f"panic 0x{decode(['uint256'], rest)[0]:02x}", error="Panic")
        if item is not None:
            kinds = [abi_type(field) for field in item["inputs"]]
            values = tuple(map(_value, kinds, decode(kinds, rest)))
            shown = ", ".join(map(_show, values))
            return Revert(f"{item['name']}({shown})", error=item["name"], values=values)
    except (DecodingError, InsufficientDataBytes, OverflowError, UnicodeDecodeError):
        pass  # somebody else's error with the same selector: show its bytes
    return Revert(f"unknown error 0x{raw[:36].hex()}" if raw else "no reason given")


def _to_bytes(data: object) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        try:
            return bytes.fromhex(data.removeprefix("Reverted ").removeprefix("0x"))
        except ValueError:
            return b""
    return b""


def _value(kind: str, value: object) -> object:
    return to_checksum_address(value) if kind == "address" and isinstance(value, str) else value


def _show(value: object) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)
