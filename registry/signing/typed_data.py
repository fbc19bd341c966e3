"""EIP-712 digests, small and fast enough to stand on the payment path.

Source: EIP-712 (hashStruct, encodeData, domain separator). Structs are flat or hold arrays of
structs; that is all our contracts use. `tests/registry/signing` compares every digest with
eth-account and with the vectors that the Solidity tests read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial

from registry.errors import SignatureError
from registry.signing.keccak import keccak


@dataclass(frozen=True)
class Domain:
    """An EIP-712 domain. `contract` is a 0x address; absent fields are left out of the type."""

    name: str
    version: str
    chain_id: int
    contract: str | None = None

    def separator(self) -> bytes:
        """Return the 32-byte domain separator."""
        return self._separator

    @cached_property
    def _separator(self) -> bytes:
        fields = "string name,string version,uint256 chainId"
        encoded = keccak(self.name.encode()) + keccak(self.version.encode()) + _uint(self.chain_id)
        if self.contract is not None:
            fields += ",address verifyingContract"
            encoded += _address(self.contract)
        return keccak(keccak(f"EIP712Domain({fields})".encode()) + encoded)


@dataclass(frozen=True)
class Struct:
    """An EIP-712 struct type.

    `fields` maps names to types in order; a type is a Solidity elementary type, or
    `Name[]` with the struct in `arrays`.
    """

    name: str
    fields: Mapping[str, str]
    arrays: Mapping[str, Struct] = field(default_factory=dict)

    def type_hash(self) -> bytes:
        """Return keccak256(encodeType)."""
        return keccak(self._encode_type().encode())

    @cached_property
    def _type_hash(self) -> bytes:
        return self.type_hash()

    def hash(self, values: Mapping[str, object]) -> bytes:
        """Return hashStruct(values), 32 bytes. Raises `SignatureError` on a wrong value."""
        parts = [self._type_hash]
        try:
            for name, encode in self._encoders:
                parts.append(encode(values[name]))
        except KeyError as error:
            raise SignatureError(f"{self.name}.{error.args[0]} is missing") from error
        return keccak(b"".join(parts))

    def digest(self, separator: bytes, values: Mapping[str, object]) -> bytes:
        """Return the 32 bytes that are signed: keccak256(0x1901 ‖ domain ‖ hashStruct)."""
        return keccak(b"\x19\x01" + separator + self.hash(values))

    def _encode_type(self) -> str:
        own = ",".join(f"{kind} {name}" for name, kind in self.fields.items())
        referenced = sorted({s.name: s for s in self.arrays.values()}.items())
        return f"{self.name}({own})" + "".join(s._encode_type() for _, s in referenced)

    @cached_property
    def _encoders(self) -> tuple[tuple[str, Callable[[object], bytes]], ...]:
        return tuple((name, self._encoder(kind)) for name, kind in self.fields.items())

    def _encoder(self, kind: str) -> Callable[[object], bytes]:
        if kind.endswith("[]"):
            return lambda value: keccak(b"".join(self._encode_items(kind[:-2], value)))
        # What nearly all fields are, without asking each time what they are.
        if kind == "bytes32":
            return _bytes32
        if kind.startswith("uint"):
            return _uint_of(int(kind[4:]))
        return partial(_elementary, kind)

    def _encode_items(self, kind: str, value: object) -> list[bytes]:
        if not isinstance(value, Sequence):
            raise SignatureError(f"{self.name}: {kind}[] needs a list")
        struct = self.arrays.get(kind)
        return [struct.hash(item) if struct else _elementary(kind, item) for item in value]


def _elementary(kind: str, value: object) -> bytes:
    match kind, value:
        case "address", str():
            return _address(value)
        case "string", str():
            return _text(value)
        case "bytes", bytes():
            return keccak(value)
        case "bytes32", _:
            return _bytes32(value)
        case _, int() if kind.startswith("uint") and not isinstance(value, bool):
            return _uint(value, bits=int(kind[4:]))
    raise SignatureError(f"{value!r:.80} is not a {kind}")


def _bytes32(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != 32:
        raise SignatureError(f"{value!r:.80} is not a bytes32")
    return value


def _uint_of(bits: int) -> Callable[[object], bytes]:
    limit = 1 << bits

    def encode(value: object) -> bytes:
        if type(value) is int and 0 <= value < limit:
            return value.to_bytes(32, "big")
        return _elementary(f"uint{bits}", value)

    return encode


@lru_cache(maxsize=4096)
def _text(value: str) -> bytes:
    """Return the hash of a string. Cached: networks, URLs and payers come again and again."""
    return keccak(value.encode())


def _uint(value: int, *, bits: int = 256) -> bytes:
    if not 0 <= value < 1 << bits:
        raise SignatureError(f"{value} does not fit uint{bits}")
    return value.to_bytes(32, "big")


@lru_cache(maxsize=4096)
def _address(value: str) -> bytes:
    try:
        raw = bytes.fromhex(value.removeprefix("0x"))
    except ValueError as error:
        raise SignatureError(f"{value!r:.60} is not an address") from error
    if len(raw) != 20:
        raise SignatureError(f"{value!r:.60} is not an address")
    return raw.rjust(32, b"\0")
