"""Contract events: topics to ask for, logs to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, InsufficientDataBytes

from registry.chain.artifact import AbiItem, abi_type, load, signature
from registry.chain.block import Log
from registry.chain.calldata import checksummed
from registry.errors import ChainMismatchError
from registry.signing.keccak import keccak


@dataclass(frozen=True)
class Event:
    """One decoded event and the block, transaction and position it stands at."""

    name: str
    values: Mapping[str, object]
    address: str
    block: int
    tx_hash: bytes
    index: int


def topics(contract: str, name: str, where: Mapping[str, object]) -> list[str | None]:
    """Return the topic filter for event `name` of an artifact; `where` gives indexed values."""
    item = _item(contract, name)
    wanted: list[str | None] = [f"0x{keccak(signature(item).encode()).hex()}"]
    for field in item["inputs"]:
        if field["indexed"]:
            value = where.get(field["name"])
            wanted.append(None if value is None else f"0x{encode([field['type']], [value]).hex()}")
    return wanted


def read(contract: str, name: str, log: Log) -> Event | None:
    """Decode `log` as event `name` of an artifact, or return None when it is another event.

    Indexed strings and bytes come as the 32-byte hash the chain keeps of them.
    Raises `ChainMismatchError` when the log has the event's topic but not its shape.
    """
    item = _item(contract, name)
    if not log.topics or log.topics[0] != keccak(signature(item).encode()):
        return None
    indexed = [field for field in item["inputs"] if field["indexed"]]
    plain = [field for field in item["inputs"] if not field["indexed"]]
    values: dict[str, object] = {}
    try:
        for field, topic in zip(indexed, log.topics[1:], strict=True):
            static = not abi_type(field).endswith("]") and field["type"] not in ("string", "bytes")
            (value,) = decode([field["type"] if static else "bytes32"], topic)
            values[field["name"]] = checksummed(field, value)
        decoded = decode([abi_type(field) for field in plain], log.data)
    except (DecodingError, InsufficientDataBytes, ValueError, OverflowError) as error:
        raise ChainMismatchError(
            f"the contract at {log.address} emits another {name} than {contract}'s",
            hint="check the contract's address",
        ) from error
    for field, value in zip(plain, decoded, strict=True):
        values[field["name"]] = checksummed(field, value)
    return Event(name, values, log.address, log.block, log.tx_hash, log.index)


def _item(contract: str, name: str) -> AbiItem:
    for item in load(contract).abi:
        if item["type"] == "event" and item["name"] == name:
            return item
    raise ChainMismatchError(f"{contract} has no event {name}")
