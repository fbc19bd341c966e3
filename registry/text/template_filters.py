"""The filters, tests and functions that chat templates use: bounded, and at a charge."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from jinja2.exceptions import SecurityError

from registry.text.template_meter import charge, charged, scalar

MAX_INTEGER: Final = 2**63
# Strip and trim try each of these for each character of a text.
MAX_STRIPPED: Final = 256
_MAX_INDENT: Final = 8
_MAX_PRECISION: Final = 15
# Longer than any number that a float or an integer of 63 bits has.
_MAX_DIGITS: Final = 64
# Attributes of attributes; each is looked up for each item.
_MAX_DOTS: Final = 8
_NAMES: Final = frozenset(
    {"abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items"}
    | {"join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr"}
    | {"replace", "reverse", "round", "safe", "select", "selectattr", "sort", "string", "title"}
    | {"tojson", "trim", "unique", "upper"}
)
_OF_TEXTS: Final = ("capitalize", "lower", "title", "upper")
_OF_NUMBERS: Final = ("float", "int")
_BY_ATTRIBUTE: Final = ("map", "max", "min", "rejectattr", "selectattr", "sort", "unique")

Function = Callable[..., Any]


def safe_filters(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filters for templates, made of those that jinja2 has."""
    found = {name: known[name] for name in _NAMES}
    found.update({"join": join, "replace": replace, "safe": scalar, "string": scalar})
    found.update({"round": _rounded, "tojson": _tojson, "trim": _trimmed})
    found.update({name: _of_scalar(known[name]) for name in _OF_TEXTS})
    found.update({name: _of_digits(known[name]) for name in _OF_NUMBERS})
    found.update({name: _by_attribute(known[name]) for name in _BY_ATTRIBUTE})
    return {name: _at_a_charge(function) for name, function in found.items()}


def safe_tests(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return jinja2's tests, each at a charge."""
    return {name: _at_a_charge(function) for name, function in known.items()}


def join(parts: Iterable[object], glue: object = "", attribute: str | None = None) -> str:
    """Join texts and numbers, charged before it is done."""
    if attribute is not None:
        raise SecurityError("join by attribute is not available")
    between = scalar(glue)
    pieces = []
    for part in parts:
        pieces.append(scalar(part))
        charge(len(pieces[-1]) + len(between))
    return between.join(pieces)


def replace(text: object, old: object, new: object, count: int = -1) -> str:
    """Replace a text, charged before it is done."""
    whole, before, after = scalar(text), scalar(old), scalar(new)
    found = whole.count(before)
    charge(len(whole) + (found if count < 0 else min(count, found)) * len(after))
    return whole.replace(before, after, count)


def _at_a_charge(function: Function) -> Function:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return charged(function(*args, **kwargs))

    return run


def _of_scalar(function: Function) -> Function:
    return lambda value: function(scalar(value))


def _of_digits(function: Function) -> Function:
    def convert(value: object, *args: Any, **kwargs: Any) -> Any:
        if len(scalar(value)) > _MAX_DIGITS:
            raise SecurityError(f"a number has more than {_MAX_DIGITS} digits")
        return function(value, *args, **kwargs)

    return convert


def _by_attribute(function: Function) -> Function:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            if isinstance(value, str) and value.count(".") > _MAX_DOTS and value is not args[1]:
                raise SecurityError(f"it asks for an attribute of more than {_MAX_DOTS} parts")
        return function(*args, **kwargs)

    return run


def _trimmed(value: object, chars: object = None) -> str:
    stripped = None if chars is None else scalar(chars)
    check_stripped(stripped)
    return scalar(value).strip(stripped)


def check_stripped(chars: object) -> None:
    """Refuse to strip many different characters: each is tried at each place."""
    if isinstance(chars, str) and len(chars) > MAX_STRIPPED:
        raise SecurityError(f"it strips more than {MAX_STRIPPED} characters")


def _rounded(value: float, precision: int = 0, method: str = "common") -> float:
    if method != "common" or not abs(precision) <= _MAX_PRECISION:
        raise SecurityError("it rounds in a way that is not available")
    return round(value, precision)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if indent is not None and not 0 <= indent <= _MAX_INDENT:
        raise SecurityError(f"tojson indents by more than {_MAX_INDENT}")
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    pieces = []
    for piece in encoder.iterencode(value):
        charge(len(piece))
        pieces.append(piece)
    return "".join(pieces)
