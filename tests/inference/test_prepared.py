"""Prepared statements: what they refuse, and that they say what SQLAlchemy says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from inference import schema
from inference.database import Database
from inference.errors import NodeError
from inference.prepared import Prepared

TABLE = schema.authorizations
ADD = Prepared(insert(TABLE))
FIND = Prepared(
    select(TABLE.c.amount, TABLE.c.nonce, TABLE.c.tx_hash).where(
        TABLE.c.amount == bindparam("wanted"), TABLE.c.purpose == "exact"
    )
)
MOVE = Prepared(update(TABLE).where(TABLE.c.nonce == bindparam("this")).values(state="settled"))
LARGEST = 2**256 - 1


def row(nonce: str = "0x1", amount: int = LARGEST, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {column.name: None for column in TABLE.columns}
    values |= {"asset": "0xA", "payer": "0xP", "nonce": nonce, "purpose": "exact"}
    values |= {"reservation_id": nonce, "amount": amount, "valid_before": 7, "state": "reserved"}
    return values | {"created_at": 5, "instance": "me"} | more


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/node.db"
    with Database(url, chain_id=31337, channels="0xC", node="0xN") as database:
        yield database


@pytest.mark.parametrize("amount", [-1, 2**256, True, "1"], ids=repr)
def test_what_is_no_amount_is_refused_before_it_is_written(database: Database, amount: Any) -> None:
    with pytest.raises(NodeError, match="amount"):
        database.write_now(lambda tx: ADD.run(tx, row(amount=amount)))


def test_a_value_that_is_missing_is_refused_by_name(database: Database) -> None:
    with pytest.raises(NodeError, match="this"):
        database.write_now(lambda tx: MOVE.run(tx, {}))


def test_a_broken_constraint_is_sqlalchemys_error_and_does_not_tell_the_values(
    database: Database,
) -> None:
    database.write_now(lambda tx: ADD.run(tx, row()))
    with pytest.raises(IntegrityError) as caught:
        database.write_now(lambda tx: ADD.run(tx, row(payer="0xP", tx_hash="0xSECRET")))
    assert "SECRET" not in str(caught.value)


def test_amounts_go_in_and_come_out_as_integers_of_256_bits(database: Database) -> None:
    database.write_now(lambda tx: ADD.run(tx, row()))
    database.write_now(lambda tx: ADD.run(tx, row("0x2", amount=3)))
    found = database.read(lambda tx: FIND.rows(tx, {"wanted": LARGEST}))
    assert found == [(LARGEST, "0x1", None)]
    assert database.read(lambda tx: FIND.first(tx, {"wanted": 3})) == (3, "0x2", None)
    assert database.read(lambda tx: FIND.first(tx, {"wanted": 4})) is None
    general = database.read(lambda tx: list(tx.execute(select(TABLE.c.amount))))
    assert {amount for (amount,) in general} == {LARGEST, 3}


def test_a_change_says_how_many_rows_it_changed(database: Database) -> None:
    database.write_now(lambda tx: ADD.run(tx, row()))
    assert database.write_now(lambda tx: MOVE.run(tx, {"this": "0x1"})) == 1
    assert database.write_now(lambda tx: MOVE.run(tx, {"this": "0x2"})) == 0
