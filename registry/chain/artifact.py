"""The compiled contracts that are committed beside this file.

`scripts/compile_contracts.py` writes them and a test recompiles and compares, so a user needs no
Solidity compiler.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

from registry.errors import ConfigError
from registry.signing.keccak import keccak

FOLDER: Final = Path(__file__).parent / "artifacts"
# EVM opcodes: PUSH1 to PUSH32 are followed by that many bytes of data.
_PUSH0: Final = 0x5F
_PUSH32: Final = 0x7F
# One item of a contract's ABI, as solc writes it.
AbiItem = dict[str, Any]


@dataclass(frozen=True)
class Artifact:
    """One compiled contract: its ABI, creation code and runtime code."""

    name: str
    abi: tuple[AbiItem, ...]
    bytecode: bytes
    deployed_bytecode: bytes

    @cached_property
    def immutables(self) -> tuple[int, ...]:
        """Where in the runtime code a constructor puts 32-byte values, as offsets of their bytes.

        The compiler leaves a PUSH32 of zeros there, and writes zeros nowhere else with 32 bytes;
        a test compares with its own list.
        """
        code, found, at = self.deployed_bytecode, [], 0
        while at < len(code):
            operand = code[at] - _PUSH0 if _PUSH0 < code[at] <= _PUSH32 else 0
            if code[at] == _PUSH32 and not any(code[at + 1 : at + 33]):
                found.append(at + 1)
            at += 1 + operand
        return tuple(found)


@cache
def load(name: str) -> Artifact:
    """Return the contract `name`. Raises `ConfigError` when it is not among the artifacts."""
    path = FOLDER / f"{name}.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"there is no compiled contract {name}", hint="run: make contracts"
        ) from None
    return Artifact(
        name=name,
        abi=tuple(raw["abi"]),
        bytecode=bytes.fromhex(raw["bytecode"].removeprefix("0x")),
        deployed_bytecode=bytes.fromhex(raw["deployedBytecode"].removeprefix("0x")),
    )


@cache
def errors_by_selector() -> dict[bytes, AbiItem]:
    """Return every custom error of every contract, by its 4-byte selector."""
    found: dict[bytes, AbiItem] = {}
    for path in sorted(FOLDER.glob("*.json")):
        for item in load(path.stem).abi:
            if item["type"] == "error":
                found[keccak(signature(item).encode())[:4]] = item
    return found


def signature(item: AbiItem) -> str:
    """Return an ABI item's canonical signature, such as `Revoked(bytes32,string)`."""
    return f"{item['name']}({','.join(abi_type(field) for field in item['inputs'])})"


def abi_type(field: AbiItem) -> str:
    """Return a field's ABI type with tuples written out, such as `(address,uint8)[]`."""
    kind = str(field["type"])
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(abi_type(part) for part in field["components"])
    return f"({inner}){kind.removeprefix('tuple')}"
