"""What one rendering of a chat template may use: characters, rounds, nesting and time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import GeneratorType
from typing import Any, Final, TypeVar

from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined

# What one rendering may make in all: outputs, joins, the results of filters and methods.
MAX_CHARACTERS: Final = 16 * 1024 * 1024
# Rounds of loops and calls of macros; a thousand messages take a few thousand.
MAX_ROUNDS: Final = 200_000
# The largest published templates render a thousand messages in some 20 ms.
MAX_SECONDS: Final = 2.0
# Of one list or mapping with all that is in it, an item counted as often as it stands there: what
# comparing, hashing or copying it can take. A thousand messages weigh five thousand.
MAX_WEIGHT: Final = 500_000
# So many characters of a text weigh as much as an item.
_CHARACTERS_PER_ITEM: Final = 64
_SCALARS: Final = (str, int, float, type(None), Undefined)

Value = TypeVar("Value")


class _Meter:
    """What one rendering has used so far."""

    def __init__(self) -> None:
        self._characters = 0
        self._rounds = 0
        self._deadline = time.monotonic() + MAX_SECONDS

    def charge(self, characters: int) -> None:
        self._characters += characters
        if self._characters > MAX_CHARACTERS:
            raise SecurityError(f"it makes more than {MAX_CHARACTERS} characters")
        self.check_time()

    def round(self) -> None:
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            raise SecurityError(f"its loops take more than {MAX_ROUNDS} rounds")
        self.check_time()

    def check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise SecurityError(f"it takes longer than {MAX_SECONDS} seconds")


_meter: ContextVar[_Meter] = ContextVar("meter of the rendering under way")


@contextmanager
def metered() -> Iterator[None]:
    """Begin a new meter for what is rendered within."""
    token = _meter.set(_Meter())
    try:
        yield
    finally:
        _meter.reset(token)


def charge(characters: int) -> None:
    """Count characters before they are made. All here raise jinja2's `SecurityError`."""
    _meter.get().charge(characters)


def count_round() -> None:
    """Count a round of a loop or a call of a macro."""
    _meter.get().round()


def charged(value: Value) -> Value:
    """Return what an operation made, at a charge; of a generator each item is charged."""
    if isinstance(value, str):
        _meter.get().charge(len(value))
    elif isinstance(value, list | tuple | dict):
        _meter.get().charge(weigh(value))
    elif isinstance(value, GeneratorType):
        return _charged_items(value)  # type: ignore[return-value]  # a generator like it
    else:
        _meter.get().check_time()
    return value


def weigh(value: object) -> int:
    """Return how many items lists and mappings hold, with all that is in them.

    A list of two equal lists weighs twice: forty lists around each other are a million million
    items for whoever compares, hashes or writes them, in forty places of memory.
    """
    weight = 0
    left = [value]
    while left:
        item = left.pop()
        weight += 1
        if isinstance(item, str):
            weight += len(item) // _CHARACTERS_PER_ITEM
        elif isinstance(item, list | tuple):
            left.extend(item)
        elif isinstance(item, dict):
            left.extend(item)
            left.extend(item.values())
        if weight + len(left) > MAX_WEIGHT:
            raise SecurityError(f"it makes a list of more than {MAX_WEIGHT} items")
    return weight


def scalar(value: object) -> str:
    """Return the text of a text, a number or nothing.

    That of a list of lists can be exponentially longer than the template that makes it, and that
    of a function tells where in memory it lies, which is another place each time.
    """
    if isinstance(value, _SCALARS):
        return str(value)
    raise SecurityError(f"it writes a {type(value).__name__}; only tojson may do that")


def _charged_items(items: Any) -> Iterator[Any]:
    for item in items:
        _meter.get().check_time()
        yield item
