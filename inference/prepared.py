"""Statements on the path of a paid call: compiled once, then run on the driver itself.

Building a statement and its result the general way takes SQLAlchemy 30 to 100 µs, running it
takes SQLite 3 to 10. So a `Prepared` statement is compiled once for each kind of database, and
its rows are plain tuples. It runs in the transaction of the `Connection` it is handed, beside
statements run the general way, and raises the same errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Delete, Insert, Select, Update
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from inference.errors import NodeError
from inference.schema import Amount

Row: TypeAlias = tuple[Any, ...]
_Change: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True)
class _Form:
    """A statement as one kind of database takes it.

    `binds` are its parameters, in their order where they go by `position`; `written` changes
    amounts on their way in (by name), `read` on their way out (by position).
    """

    text: str
    position: bool
    binds: tuple[tuple[str, _Change | None], ...]
    constants: Mapping[str, Any]
    read: tuple[tuple[int, _Change], ...]


class Prepared:
    """One statement. Its parameters are bound by name; lists (`IN`) cannot be."""

    def __init__(self, statement: Select[Any] | Insert | Update | Delete) -> None:
        self._statement: Final = statement
        self._forms: Final[dict[str, _Form]] = {}

    def rows(self, tx: Connection, values: Mapping[str, Any]) -> list[Row]:
        """Return the rows, each a tuple in the order the columns were selected in."""
        form = self._form(tx)
        rows: list[Row] = self._run(tx, form, values).fetchall()
        if not form.read:
            return rows
        return [_changed(row, form.read) for row in rows]

    def first(self, tx: Connection, values: Mapping[str, Any]) -> Row | None:
        """Return the first row, None where there is none."""
        form = self._form(tx)
        row: Row | None = self._run(tx, form, values).fetchone()
        return row if row is None or not form.read else _changed(row, form.read)

    def run(self, tx: Connection, values: Mapping[str, Any]) -> int:
        """Run a statement without rows; return how many rows of its table it changed."""
        changed: int = self._run(tx, self._form(tx), values).rowcount
        return changed

    def _run(self, tx: Connection, form: _Form, values: Mapping[str, Any]) -> Any:
        if form.constants:
            values = {**form.constants, **values}
        try:
            if not form.position:
                named = {
                    name: values[name] if change is None else change(values[name])
                    for name, change in form.binds
                }
                return drive(tx, form.text, named)
            listed = [
                values[name] if change is None else change(values[name])
                for name, change in form.binds
            ]
        except KeyError as error:
            raise NodeError(f"a statement lacks the value of {error}") from error
        return drive(tx, form.text, listed)

    def _form(self, tx: Connection) -> _Form:
        form = self._forms.get(tx.dialect.name)
        return form or self._forms.setdefault(tx.dialect.name, _form(self._statement, tx.dialect))


def drive(tx: Connection, text: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
    """Run a text of the database's own SQL on the driver; return its cursor.

    Raises the same `DBAPIError` as SQLAlchemy would; it does not tell the values.
    """
    driver: Any = tx.connection.dbapi_connection
    try:
        return driver.execute(text, values)
    except tx.dialect.loaded_dbapi.Error as error:
        raise DBAPIError.instance(
            text, None, error, tx.dialect.loaded_dbapi.Error, hide_parameters=True
        ) from error


def _form(statement: Any, dialect: Dialect) -> _Form:
    compiled = statement.compile(dialect=dialect)
    binds = compiled.binds
    columns = statement.selected_columns if isinstance(statement, Select) else ()
    return _Form(
        text=str(compiled),
        position=bool(compiled.positional),
        binds=tuple(
            (name, _writer(binds[name].type, dialect)) for name in compiled.positiontup or binds
        ),
        constants={name: bind.value for name, bind in binds.items() if not bind.required},
        read=tuple(
            (place, _reader(column.type, dialect))
            for place, column in enumerate(columns)
            if isinstance(column.type, Amount)
        ),
    )


def _writer(kind: TypeEngine[Any], dialect: Dialect) -> _Change | None:
    if not isinstance(kind, Amount):
        return None
    return lambda value: kind.process_bind_param(value, dialect)


def _reader(amount: Amount, dialect: Dialect) -> _Change:
    return lambda value: amount.process_result_value(value, dialect)


def _changed(row: Row, changes: tuple[tuple[int, _Change], ...]) -> Row:
    values = list(row)
    for place, change in changes:
        values[place] = change(values[place])
    return tuple(values)
