"""One table of the settings file, read key by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from registry.errors import ConfigError

FILE_NAME: Final = "weightproof.toml"
_KINDS: Final = {
    str: "text in quotes",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


class Section:
    """One table of the file; every key must be asked for, or `finish` refuses the rest."""

    def __init__(self, name: str, table: Mapping[str, Any]) -> None:
        self._name = name
        self._table = dict(table)
        self._asked: set[str] = set()

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string; without a default it is required."""
        return str(self._value(key, str, default))

    def integer(self, key: str, default: int, *, low: int = 0, high: int = 2**63) -> int:
        """Return an integer within [low, high]."""
        value = self._value(key, int, default)
        if isinstance(value, bool) or not low <= value <= high:
            raise ConfigError(f"{self._full(key)} must be an integer from {low} to {high}")
        return int(value)

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        return bool(self._value(key, bool, default))

    def text_or_integer(self, key: str, default: str | int) -> str | int:
        """Return a string or an integer, as it was written."""
        kind = int if isinstance(self._table.get(key, default), int) else str
        value: str | int = self._value(key, kind, default)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings, empty when absent."""
        value = self._value(key, list, [])
        if not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{self._full(key)} must be a list of texts in quotes")
        return tuple(value)

    def pairs(self, key: str) -> tuple[tuple[int, int], ...]:
        """Return a list of pairs of integers from 0 on, empty when absent."""
        value = self._value(key, list, [])
        for pair in value:
            if (
                not isinstance(pair, list)
                or len(pair) != 2
                or not all(type(item) is int and 0 <= item <= 2**63 for item in pair)
            ):
                raise ConfigError(f"{self._full(key)} must be a list of pairs of whole numbers")
        return tuple((first, second) for first, second in value)

    def section(self, key: str) -> Section:
        """Return the table below `key`, empty when absent."""
        return Section(self._full(key), self._value(key, dict, {}))

    def sections(self, key: str) -> tuple[Section, ...]:
        """Return the array of tables below `key`."""
        self._asked.add(key)
        tables = self._table.get(key, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise ConfigError(f"{key} must be a list of tables", hint=f"write [[{key}]] above each")
        return tuple(Section(f"{key}[{i}]", table) for i, table in enumerate(tables))

    def finish(self, *, but: Iterable[str] = ()) -> None:
        """Raise `ConfigError` for keys nobody asked for; `but` names those that others read."""
        if unknown := sorted(set(self._table) - self._asked - set(but)):
            raise ConfigError(
                f"unknown setting {self._full(unknown[0])}", hint="is it spelt as in the README?"
            )

    def __contains__(self, key: str) -> bool:
        return key in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def _value(self, key: str, kind: type, default: Any) -> Any:
        self._asked.add(key)
        value = self._table.get(key, default)
        if value is None:
            raise ConfigError(
                f"setting {self._full(key)} is missing", hint=f"set it in {FILE_NAME}"
            )
        if not isinstance(value, kind):
            raise ConfigError(f"{self._full(key)} must be {_KINDS[kind]}")
        return value

    def _full(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key
