"""Canonical JSON: one value, one text (RFC 8785), restricted to what can be signed safely.

Values are strings, integers within ±(2^53 - 1), lists and objects. Floats, booleans and null
are refused: a digest must not depend on how a language prints a float, and an absent key says
what null would say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Sized
from typing import Final, NoReturn, TypeAlias

import rfc8785

from registry.errors import CanonicalError

JsonValue: TypeAlias = "str | int | Sequence[JsonValue] | Mapping[str, JsonValue]"
JsonObject: TypeAlias = "dict[str, JsonValue]"

# One manifest is one IPFS block; peers refuse blocks much larger than this.
MAX_BYTES = 1024 * 1024
# Deep nesting is how a parser is made to run out of stack.
MAX_DEPTH = 16
# RFC 8785 numbers are IEEE doubles; beyond this, integers are no longer exact.
MAX_INTEGER = 2**53 - 1

# Of strings and integers under ASCII keys it writes what RFC 8785 asks for, and it is written in C.
_PLAIN: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False
)


def encode(value: JsonValue) -> bytes:
    """Return the canonical UTF-8 bytes of `value`.

    Raises `CanonicalError` for floats, booleans, null, integers out of range, lone surrogates
    or nesting deeper than 16.
    """
    plain = _check(value, depth=1)
    try:
        return _PLAIN.encode(value).encode() if plain else rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise CanonicalError(f"not encodable as canonical JSON: {error}") from error


def decode(data: bytes, *, max_bytes: int = MAX_BYTES) -> JsonValue:
    """Parse bytes that must be the canonical text of a value; anything else is refused.

    Raises `CanonicalError` with the reason: what `parse` raises, or not canonical.
    """
    value = parse(data, max_bytes=max_bytes)
    if encode(value) != data:
        raise CanonicalError("not canonical: spaces, key order or escapes differ from RFC 8785")
    return value


def parse(data: bytes, *, max_bytes: int = MAX_BYTES) -> JsonValue:
    """Parse JSON that has a canonical text, however it is spaced and ordered.

    `max_bytes` bounds the work before parsing. Raises `CanonicalError` with the reason:
    too large, not UTF-8, duplicate key, float, trailing bytes, or too deep.
    """
    if len(data) > max_bytes:
        raise CanonicalError(f"{len(data)} bytes of JSON, more than the {max_bytes} allowed")
    try:
        text = data.decode("utf-8")
        value: JsonValue = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=_refuse_float,
            parse_constant=_refuse_float,
            parse_int=_integer,
        )
    except UnicodeDecodeError as error:
        raise CanonicalError(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise CanonicalError(f"not JSON: {error.msg} at byte {error.pos}") from error
    except RecursionError as error:
        raise CanonicalError(f"nested deeper than {MAX_DEPTH}") from error
    _check(value, depth=1)
    return value


def decode_object(data: bytes, *, max_bytes: int = MAX_BYTES) -> JsonObject:
    """Like `decode`, and the value must be an object."""
    value = decode(data, max_bytes=max_bytes)
    if not isinstance(value, dict):
        raise CanonicalError("not a JSON object")
    return value


def _object(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    result: JsonObject = {}
    for key, value in pairs:
        if key in result:
            raise CanonicalError(f"duplicate key {key!r}")
        result[key] = value
    return result


def _refuse_float(text: str) -> NoReturn:
    raise CanonicalError(f"{text[:40]} is not an integer; write decimals as strings")


def _integer(text: str) -> int:
    # Bounded before int(): converting a megabyte of digits takes quadratic time.
    if len(text) > 17:
        raise CanonicalError(f"integer of {len(text)} characters is beyond 2^53 - 1")
    return int(text)


def _check(value: object, *, depth: int) -> bool:
    """Refuse what cannot be signed safely; return whether C's encoder writes the rest right."""
    if isinstance(value, str):
        return True
    if isinstance(value, bool) or value is None or isinstance(value, float):
        raise CanonicalError(f"{value!r} is neither string, integer, list nor object")
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise CanonicalError(f"{value} is beyond 2^53 - 1; write it as a string")
        return True
    if isinstance(value, Mapping):
        _check_depth(value, depth)
        # Python sorts by code points, RFC 8785 by UTF-16; of ASCII keys both make one order.
        plain = isinstance(value, dict)
        for key, item in value.items():
            if not isinstance(key, str):
                raise CanonicalError(f"key {key!r} is not a string")
            plain = (isinstance(item, str) or _check(item, depth=depth + 1)) and plain
            plain = plain and key.isascii()
        return plain
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        _check_depth(value, depth)
        plain = isinstance(value, list | tuple)
        for item in value:
            plain = _check(item, depth=depth + 1) and plain
        return plain
    raise CanonicalError(f"{type(value).__name__} is not a JSON value")


def _check_depth(value: Sized, depth: int) -> None:
    if depth >= MAX_DEPTH and len(value):
        raise CanonicalError(f"nested deeper than {MAX_DEPTH}")
