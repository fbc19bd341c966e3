"""JSON of a model folder, read so that it means one thing to every reader."""

from __future__ import annotations

import json
from collections.abc import Set
from math import isfinite
from typing import Any, Final, NoReturn

from registry.errors import FileRefusedError

# Configurations take a few KiB.
MAX_CONFIG_BYTES: Final = 1024 * 1024
# Converting endless digits takes quadratic time. Some tokenizers write "no limit" with 31.
_MAX_DIGITS: Final = 40
# Keys by which loaders are told to fetch or run code, or to change the weights they load.
FORBIDDEN_KEYS: Final = frozenset(
    {"_target_", "auto_map", "custom_pipelines", "quantization_config", "trust_remote_code"}
)


def parse_object(
    data: bytes,
    path: str,
    *,
    max_bytes: int = MAX_CONFIG_BYTES,
    forbidden: Set[str] = FORBIDDEN_KEYS,
) -> dict[str, Any]:
    """Return the JSON object in `data`; `path` is what errors call the file.

    Raises `FileRefusedError` for more than `max_bytes`, text that is not UTF-8 or not JSON,
    duplicate keys, NaN and infinities, a key that asks for code, or a value that is no object.
    """

    def refuse(rule: str) -> NoReturn:
        raise FileRefusedError(path, rule)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            refuse("has a duplicate key")
        for key in forbidden & result.keys():
            refuse(f"has the key {key}: nothing executable is loaded")
        return result

    def integer(digits: str) -> int:
        return int(digits) if len(digits) <= _MAX_DIGITS else refuse("has a number too large")

    def fraction(digits: str) -> float:
        # Larger ones become infinite without a word.
        value = float(digits)
        return value if isfinite(value) else refuse("has a number too large")

    if len(data) > max_bytes:
        refuse(f"has {len(data)} bytes, more than {max_bytes}")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=unique,
            parse_int=integer,
            parse_float=fraction,
            parse_constant=lambda text: refuse(f"has the number {text}"),
        )
    except UnicodeDecodeError:
        refuse("is not UTF-8")
    except json.JSONDecodeError as error:
        refuse(f"is not JSON: {error.msg} at character {error.pos}")
    except RecursionError:
        refuse("is nested too deeply")
    if not isinstance(value, dict):
        refuse("is not a JSON object")
    return value
