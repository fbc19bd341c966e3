"""The database: whose it is, what reaches the disk, and what a failure undoes."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, create_engine, text
from sqlalchemy.exc import IntegrityError

from inference import schema
from inference.database import (
    Database,
    DatabaseBusyError,
    DatabaseError,
    DatabaseFullError,
    LockTakenError,
)
from inference.errors import NodeError
from inference.migrations.upgrade import upgrade
from inference.payments.authorizations import AuthorizationBook
from inference.payments.ledger import ChannelLedger
from inference.succession import Succession
from registry.errors import ConfigError
from tests.inference.killed_program import told_until_killed
from tests.inference.payments.payer import NOW, Payer

PAYER = Payer()
ID = f"0x{PAYER.channel_id.hex()}"
OWNER = {"chain_id": 31337, "channels": "0xC", "node": "0xN"}


# Of what only files can show.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
TABLE = "CREATE TABLE t (x TEXT UNIQUE)"


def open_url(url: str, **changes: object) -> Database:
    return Database(url, **{**OWNER, **changes})  # type: ignore[arg-type]  # a mix of types


def open_database(folder: Path) -> Database:
    return open_url(f"sqlite:///{folder}/node.db")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with open_url(database_url) as database:
        database.write_now(lambda tx: tx.exec_driver_sql(TABLE))
        yield database


def put(tx: Connection, value: object) -> None:
    tx.execute(text("INSERT INTO t VALUES (:x)"), {"x": str(value)})


def count(database: Database) -> int:
    return int(database.read(lambda tx: tx.exec_driver_sql("SELECT count(*) FROM t").scalar_one()))


@pytest.mark.parametrize(
    ("change", "theirs"),
    [({"chain_id": 1}, "1"), ({"channels": "0xD"}, "0xD"), ({"node": "0xM"}, "0xM")],
)
def test_a_database_of_another_chain_contract_or_node_is_refused(
    database_url: str, change: dict[str, object], theirs: str
) -> None:
    open_url(database_url).close()
    [(name, _)] = change.items()
    with pytest.raises(ConfigError) as caught:
        open_url(database_url, **change)
    assert theirs in caught.value.message
    assert str(OWNER[name]) in caught.value.message
    open_url(database_url).close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "node.db",
        "mongo://x",
        "sqlite:////no/such/folder/node.db",
        "postgresql://127.0.0.1:9/x",
        "postgresql+asyncpg://127.0.0.1:9/x",
    ],
)
def test_a_url_that_cannot_be_opened_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError):
        Database(url, **OWNER)  # type: ignore[arg-type]  # a mix of types


@pytest.mark.parametrize(
    "url",
    [
        "nosuch://me:secret@host/x",
        "postgresql://me:secret@127.0.0.1:9/x",
        "postgres://me:secret@127.0.0.1:9/x",
        "postgresql://me:secret@127.0.0.1:port/x",
        "postgresql://me:not@secret@127.0.0.1/x",
        "postgresql://me@127.0.0.1:9/x?password=secret",
    ],
)
def test_the_error_of_a_url_does_not_tell_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_url(url)
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    path.write_bytes(b"not a database" * 500)
    with pytest.raises(ConfigError):
        open_database(tmp_path)
    assert path.read_bytes() == b"not a database" * 500


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    open_database(tmp_path).close()
    with sqlite3.connect(tmp_path / "node.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(ConfigError):
        open_database(tmp_path)


def test_what_was_in_flight_before_there_were_instances_is_ended_by_the_first_node(
    database_url: str,
) -> None:
    scheme, _, rest = database_url.partition(":")
    engine = create_engine(f"{scheme.replace('postgresql', 'postgresql+psycopg')}:{rest}")
    with engine.begin() as old:
        upgrade(old, "0001")
        tables = MetaData()
        tables.reflect(old)
        values = {
            **{"channel_id": ID, "payer": "0xP", "receiver": "0xR", "token": "0xT"},
            **{"config": json.dumps(PAYER.config.to_json()), "charged": "0", "credit": "0"},
            **{"signed_max": "100", "voucher_signature": b"", "balance": "1000"},
            **{"total_claimed": "0", "withdraw_amount": "0", "withdraw_requested_at": 0},
            **{"refund_nonce": "0", "mirrored_block": 1, "mirrored_at": NOW, "created_at": NOW},
        }
        call = {
            **{"id": "old", "channel_id": ID, "kind": "call", "amount": "100", "least": "1"},
            **{"known": "0", "told": "0", "created_at": NOW},
        }
        old.execute(tables.tables["channels"].insert(), values)
        old.execute(tables.tables["reservations"].insert(), call)
    engine.dispose()
    with open_url(database_url) as database:
        succession = Succession(database, ChannelLedger(), AuthorizationBook())
        [recovered] = succession.end_dead()
        assert [call.id for call in recovered.calls] == ["old"]
        assert succession.end_dead() == []


def test_the_migrations_make_exactly_the_schema(database: Database) -> None:
    database.write_now(lambda tx: tx.exec_driver_sql("DROP TABLE t"))
    difference = database.read(
        lambda tx: compare_metadata(MigrationContext.configure(tx), schema.metadata)
    )
    assert difference == []


def test_what_fails_undoes_itself_alone(database: Database) -> None:
    async def race() -> list[object]:
        def fail(tx: Connection) -> None:
            put(tx, "half")
            raise NodeError("on purpose")

        writes = [
            database.write(fail if i % 3 == 0 else lambda tx, i=i: put(tx, i)) for i in range(30)
        ]
        return await asyncio.gather(*writes, return_exceptions=True)

    results = asyncio.run(race())
    assert sum(isinstance(result, NodeError) for result in results) == 10
    assert count(database) == 20


def test_a_broken_constraint_reaches_its_own_caller_only(database: Database) -> None:
    database.write_now(lambda tx: put(tx, 1))

    async def race() -> list[object]:
        writes = (database.write(lambda tx, v=v: put(tx, v)) for v in (2, 1, 3))
        return await asyncio.gather(*writes, return_exceptions=True)

    results = asyncio.run(race())
    assert [type(result) for result in results] == [type(None), IntegrityError, type(None)]
    assert count(database) == 3


@ON_SQLITE
def test_a_full_disk_refuses_and_loses_nothing(database: Database) -> None:
    database.write_now(lambda tx: put(tx, 1))

    def no_more_pages(tx: Connection) -> None:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.exec_driver_sql(f"PRAGMA max_page_count = {pages}").close()

    database.write_now(no_more_pages)

    async def race() -> list[object]:
        writes = (database.write(lambda tx, v=v: put(tx, v)) for v in (2, b"\0" * 100_000, 3))
        return await asyncio.gather(*writes, return_exceptions=True)

    results = asyncio.run(race())
    assert any(isinstance(result, DatabaseFullError) for result in results)
    told = sum(result is None for result in results)
    assert count(database) == 1 + told
    database.write_now(lambda tx: tx.exec_driver_sql("PRAGMA max_page_count = 100000").close())
    database.write_now(lambda tx: put(tx, 4))
    assert count(database) == 2 + told


@ON_SQLITE
def test_a_database_held_by_another_process_is_busy_and_then_works(
    tmp_path: Path, database: Database
) -> None:
    database.write_now(lambda tx: tx.exec_driver_sql("PRAGMA busy_timeout = 50").close())
    other = sqlite3.connect(tmp_path / "node.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseBusyError) as caught:
        database.write_now(lambda tx: put(tx, 1))
    assert caught.value.status == 503
    assert count(database) == 0
    other.execute("ROLLBACK")
    other.close()
    database.write_now(lambda tx: put(tx, 1))
    assert count(database) == 1


def test_two_openers_of_one_database_wait_for_each_other(
    database_url: str, database: Database
) -> None:
    with open_url(database_url) as other:

        def fill(target: Database, start: int) -> None:
            for value in range(start, start + 25):
                target.write_now(lambda tx, value=value: put(tx, value))

        threads = [
            threading.Thread(target=fill, args=(target, start))
            for target, start in ((database, 0), (other, 1000))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert count(other) == count(database) == 50


def test_a_reader_sees_one_moment(database: Database) -> None:
    def look(tx: Connection) -> tuple[object, object]:
        before = tx.exec_driver_sql("SELECT count(*) FROM t").scalar()
        database.write_now(lambda inner: put(inner, 1))
        return before, tx.exec_driver_sql("SELECT count(*) FROM t").scalar()

    assert database.read(look) == (0, 0)
    assert count(database) == 1


def test_a_caller_that_gives_up_does_not_undo_its_write(database: Database) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(tx: Connection) -> None:
        entered.set()
        leave.wait()
        put(tx, 1)

    async def give_up() -> None:
        async def wait(function: object) -> None:
            await database.write(function)  # type: ignore[arg-type]  # two functions, one type

        tasks = [asyncio.create_task(wait(f)) for f in (slow, lambda tx: put(tx, 2))]
        await asyncio.to_thread(entered.wait)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        leave.set()

    asyncio.run(give_up())
    database.write_now(lambda tx: None)
    assert count(database) == 2


def test_writes_that_wait_together_share_a_transaction(database: Database) -> None:
    entered, leave = threading.Event(), threading.Event()
    commits: list[object] = []

    def block(tx: Connection) -> None:
        entered.set()
        leave.wait()

    async def crowd() -> None:
        blocked = database.write(block)
        await asyncio.to_thread(entered.wait)
        waiting = [
            database.write(lambda tx, i=i: (put(tx, i), commits.append(id(tx.get_transaction()))))
            for i in range(50)
        ]
        leave.set()
        await asyncio.gather(blocked, *waiting)

    asyncio.run(crowd())
    assert count(database) == 50
    assert len(set(commits)) == 1


def test_a_lock_is_one_openers_at_a_time_and_goes_with_its_process(database_url: str) -> None:
    with (
        open_url(database_url) as one,
        open_url(database_url) as other,
        one.exclusive("settling"),
        other.exclusive("sending", wait_s=0),
        pytest.raises(LockTakenError),
        other.exclusive("settling", wait_s=0),
    ):
        pass
    program = f"""
import sys
from inference.database import Database
database = Database({database_url!r}, **{OWNER!r})
with database.exclusive("settling"):
    print("held", flush=True)
    sys.stdin.read()
"""
    with open_url(database_url) as other:
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            with pytest.raises(LockTakenError), other.exclusive("settling", wait_s=0):
                pass
            process.kill()
        with other.exclusive("settling"):
            pass


def test_closing_finishes_what_was_asked_and_then_refuses(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    database.write_now(lambda tx: tx.exec_driver_sql("CREATE TABLE t (x)"))

    async def ask() -> None:
        writes = [database.write(lambda tx, i=i: put(tx, i)) for i in range(20)]
        await asyncio.to_thread(database.close)
        await asyncio.gather(*writes)

    asyncio.run(ask())
    database.close()
    with pytest.raises(DatabaseError):
        database.write_now(lambda tx: None)
    with open_database(tmp_path) as again:
        assert count(again) == 20


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    program = f"""
from inference.database import Database
database = Database("sqlite:///{tmp_path}/node.db", chain_id=31337, channels="0xC", node="0xN")
database.write_now(lambda tx: tx.exec_driver_sql("CREATE TABLE t (x)"))
for i in range(100_000):
    database.write_now(lambda tx: tx.exec_driver_sql("INSERT INTO t VALUES (?)", (i,)))
    print(i, flush=True)
"""
    told = max(told_until_killed(program, 41))
    with open_database(tmp_path) as database:
        assert told < count(database)


def test_only_what_is_durable_waits_for_the_disk(database: Database) -> None:
    def waits(tx: Connection) -> bool:
        if tx.dialect.name == "sqlite":
            return bool(tx.exec_driver_sql("PRAGMA synchronous").scalar() == 2)
        return bool(tx.exec_driver_sql("SHOW synchronous_commit").scalar() == "on")

    assert database.write_now(waits)
    assert not database.write_now(waits, durable=False)
    assert database.write_now(waits)

    entered, leave = threading.Event(), threading.Event()

    async def together() -> list[bool]:
        blocked = database.write(lambda tx: (entered.set(), leave.wait()))
        await asyncio.to_thread(entered.wait)
        waiting = [database.write(waits, durable=durable) for durable in (False, True, False)]
        leave.set()
        await blocked
        return await asyncio.gather(*waiting)

    lazy, durable, other = asyncio.run(together())
    assert durable
    # In a file, one durable member takes its whole group with it.
    shared = database.read(lambda tx: tx.dialect.name) == "sqlite"
    assert (lazy, other) == (shared, shared)


def test_what_was_not_durable_survives_a_kill_too(tmp_path: Path) -> None:
    program = f"""
import os, signal
from inference.database import Database
database = Database("sqlite:///{tmp_path}/node.db", chain_id=31337, channels="0xC", node="0xN")
database.write_now(lambda tx: tx.exec_driver_sql("CREATE TABLE t (x)"), durable=False)
for i in range(20):
    sql = "INSERT INTO t VALUES (?)"
    database.write_now(lambda tx: tx.exec_driver_sql(sql, (i,)), durable=False)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    with open_database(tmp_path) as database:
        assert count(database) == 20
