"""The desk: an event loop's brief writes, on its own thread, with all that other writes promise."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from inference.database import Database, DatabaseError, DatabaseFullError
from inference.errors import NodeError
from tests.inference.killed_program import told_until_killed

TABLE = "CREATE TABLE t (x TEXT UNIQUE)"


def opened(folder: Path) -> Database:
    return Database(f"sqlite:///{folder}/node.db", chain_id=31337, channels="0xC", node="0xN")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path) as database:
        database.write_now(lambda tx: tx.exec_driver_sql(TABLE))
        yield database


def put(tx: Connection, value: object) -> int:
    tx.execute(text("INSERT INTO t VALUES (:x)"), {"x": str(value)})
    return threading.get_ident()


def count(database: Database) -> int:
    return int(database.read(lambda tx: tx.exec_driver_sql("SELECT count(*) FROM t").scalar_one()))


def test_what_fails_after_it_changed_something_undoes_itself_alone(database: Database) -> None:
    def fail(tx: Connection) -> None:
        put(tx, "half")
        raise NodeError("on purpose")

    async def race() -> list[object]:
        writes = [
            database.write(fail if i % 3 == 0 else lambda tx, i=i: put(tx, i), brief=True)
            for i in range(30)
        ]
        return await asyncio.gather(*writes, return_exceptions=True)

    results = asyncio.run(race())
    assert sum(isinstance(result, NodeError) for result in results) == 10
    assert count(database) == 20


def test_what_refuses_before_it_changed_anything_takes_nobody_with_it(database: Database) -> None:
    ran: list[int] = []

    def refuse(_: Connection) -> None:
        raise NodeError("on purpose")

    def once(tx: Connection) -> None:
        ran.append(put(tx, len(ran)))

    async def race() -> list[object]:
        writes = (database.write(f, brief=True) for f in (once, refuse, once))
        return await asyncio.gather(*writes, return_exceptions=True)

    results = asyncio.run(race())
    assert [type(result) for result in results] == [type(None), NodeError, type(None)]
    assert ran == [threading.get_ident()] * 2
    assert count(database) == 2


def test_a_broken_constraint_reaches_its_own_caller_only(database: Database) -> None:
    database.write_now(lambda tx: put(tx, 1))

    async def race() -> list[object]:
        writes = (database.write(lambda tx, v=v: put(tx, v), brief=True) for v in (2, 1, 3))
        return await asyncio.gather(*writes, return_exceptions=True)

    results = asyncio.run(race())
    assert [isinstance(result, IntegrityError) for result in results] == [False, True, False]
    assert count(database) == 3


def test_a_full_disk_refuses_and_loses_nothing(database: Database) -> None:
    def no_more_pages(tx: Connection) -> None:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.exec_driver_sql(f"PRAGMA max_page_count = {pages}").close()

    database.write_now(no_more_pages)

    async def fill() -> object:
        large = database.write(lambda tx: put(tx, "x" * 100_000), brief=True)
        return (await asyncio.gather(large, return_exceptions=True))[0]

    assert isinstance(asyncio.run(fill()), DatabaseFullError)
    assert count(database) == 0
    database.write_now(lambda tx: tx.exec_driver_sql("PRAGMA max_page_count = 100000").close())

    async def one() -> int:
        return await database.write(lambda tx: put(tx, 1), brief=True)

    assert asyncio.run(one()) == threading.get_ident()
    assert count(database) == 1


def test_what_sqlite_undid_by_itself_is_told_to_nobody_as_kept(database: Database) -> None:
    def swallow(tx: Connection) -> None:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.exec_driver_sql(f"PRAGMA max_page_count = {pages}").close()
        with suppress(DBAPIError):
            put(tx, "x" * 100_000)
        tx.exec_driver_sql("PRAGMA max_page_count = 100000").close()

    async def together(durable: bool) -> list[object]:
        writes = (
            database.write(f, durable=durable, brief=True)
            for f in (lambda tx: put(tx, "small"), swallow)
        )
        return await asyncio.gather(*writes, return_exceptions=True)

    for durable in (False, True):
        results = asyncio.run(together(durable))
        assert [isinstance(result, DatabaseError) for result in results] == [True, True]
    with pytest.raises(DatabaseError):
        database.write_now(swallow)
    assert count(database) == 0


def test_a_loop_goes_on_while_another_process_holds_the_database(
    tmp_path: Path, database: Database
) -> None:
    other = sqlite3.connect(tmp_path / "node.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def wait() -> int:
        writing = asyncio.ensure_future(database.write(lambda tx: put(tx, 1), brief=True))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not writing.done()
        other.execute("ROLLBACK")
        return await writing

    # The writer's thread waited, not the loop.
    assert asyncio.run(wait()) != threading.get_ident()
    other.close()
    assert count(database) == 1


def test_only_what_is_durable_waits_for_the_disk(database: Database) -> None:
    def waits(tx: Connection) -> bool:
        return bool(tx.exec_driver_sql("PRAGMA synchronous").scalar() == 2)

    async def together() -> list[bool]:
        writes = (database.write(waits, durable=d, brief=True) for d in (False, True, False, True))
        return await asyncio.gather(*writes)

    assert asyncio.run(together()) == [False, True, False, True]


@pytest.mark.parametrize("durable", [False, True])
def test_more_than_one_group_at_once_is_served_to_the_last(
    database: Database, durable: bool
) -> None:
    async def many() -> None:
        puts = (lambda tx, i=i: put(tx, i) for i in range(1000))
        await asyncio.gather(*(database.write(f, durable=durable, brief=True) for f in puts))

    asyncio.run(many())
    assert count(database) == 1000


def test_loops_that_meet_at_the_connection_are_all_served(database: Database) -> None:
    async def loop(start: int) -> None:
        for value in range(start, start + 300):
            await database.write(lambda tx, v=value: put(tx, v), durable=False, brief=True)

    threads = [threading.Thread(target=lambda n=n: asyncio.run(loop(1000 * n))) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(database) == 900


def test_what_a_stopped_loop_asked_for_does_not_hold_up_another(database: Database) -> None:
    stopped = asyncio.new_event_loop()

    async def ask() -> None:
        database.write(lambda tx: put(tx, "left"), brief=True)

    async def go_on() -> None:
        await database.write(lambda tx: put(tx, "more"), brief=True)

    stopped.run_until_complete(ask())
    asyncio.run(go_on())
    database.write_now(lambda tx: None)
    assert count(database) == 2
    stopped.close()


def test_threads_and_loops_take_turns(database: Database) -> None:
    def fill(start: int) -> None:
        for value in range(start, start + 50):
            database.write_now(lambda tx, value=value: put(tx, value))

    async def loop(start: int) -> None:
        for value in range(start, start + 50):
            durable = value % 2 == 0
            await database.write(lambda tx, v=value: put(tx, v), durable=durable, brief=True)

    jobs = [lambda n=n: fill(1000 * n) for n in (1, 2)]
    jobs += [lambda n=n: asyncio.run(loop(1000 * n)) for n in (3, 4)]
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(database) == 200


def test_a_caller_that_gives_up_does_not_undo_its_write(database: Database) -> None:
    async def give_up() -> None:
        async def wait() -> None:
            await database.write(lambda tx: put(tx, 1), brief=True)

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(give_up())
    database.close()
    with pytest.raises(DatabaseError):
        database.write_now(lambda tx: None)


def test_closing_finishes_what_was_asked_and_then_refuses(tmp_path: Path) -> None:
    database = opened(tmp_path)
    database.write_now(lambda tx: tx.exec_driver_sql(TABLE))

    async def ask() -> None:
        writes = [database.write(lambda tx, i=i: put(tx, i), brief=True) for i in range(600)]
        await asyncio.to_thread(database.close)
        await asyncio.gather(*writes)
        with pytest.raises(DatabaseError):
            await database.write(lambda tx: put(tx, "late"), brief=True)

    asyncio.run(ask())
    with opened(tmp_path) as again:
        assert count(again) == 600


def test_what_a_loop_asked_for_and_did_not_wait_for_is_written_when_all_is_closed(
    tmp_path: Path,
) -> None:
    database = opened(tmp_path)
    database.write_now(lambda tx: tx.exec_driver_sql(TABLE))

    async def leave() -> None:
        database.write(lambda tx: put(tx, 1), brief=True)

    asyncio.run(leave())
    database.close()
    with opened(tmp_path) as again:
        assert count(again) == 1


def test_what_was_told_survives_a_kill(tmp_path: Path) -> None:
    program = f"""
import asyncio
from inference.database import Database
database = Database("sqlite:///{tmp_path}/node.db", chain_id=31337, channels="0xC", node="0xN")
database.write_now(lambda tx: tx.exec_driver_sql("CREATE TABLE t (x)"))
async def worker(first):
    for i in range(first, 10**6, 8):
        put = lambda tx: tx.exec_driver_sql("INSERT INTO t VALUES (?)", (i,))
        await database.write(put, durable=i % 3 != 0, brief=True)
        print(i, flush=True)
async def all_():
    await asyncio.gather(*(worker(n) for n in range(8)))
asyncio.run(all_())
"""
    told = told_until_killed(program, 200)
    with opened(tmp_path) as database:
        rows = database.read(lambda tx: tx.exec_driver_sql("SELECT x FROM t").all())
    assert told <= {int(row[0]) for row in rows}
