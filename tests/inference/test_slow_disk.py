"""A loop waits neither for a slow disk's fsync nor for a checkpoint, and answers only after it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from inference.database import Database
from tests.inference.slow_disk import SlowDisk, slow_disk


@pytest.fixture
def disk() -> Iterator[SlowDisk]:
    with slow_disk() as disk:
        yield disk


@pytest.fixture
def database(tmp_path: Path, disk: SlowDisk) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/node.db"
    with Database(url, chain_id=31337, channels="0xC", node="0xN") as database:
        database.write_now(lambda tx: tx.exec_driver_sql("CREATE TABLE t (x TEXT)"))
        yield database


def put(tx: Connection, value: str) -> None:
    tx.exec_driver_sql("INSERT INTO t VALUES (?)", (value,))


def count(database: Database) -> int:
    return int(database.read(lambda tx: tx.exec_driver_sql("SELECT count(*) FROM t").scalar_one()))


async def until(waited: list[int], more: int) -> None:
    """Let the loop go on until a thread waits for the disk."""
    while len(waited) < more:
        await asyncio.sleep(0)


def test_nobody_is_told_before_the_disk_has_it_and_the_loop_goes_on_meanwhile(
    database: Database, disk: SlowDisk
) -> None:
    async def pay() -> None:
        before = len(disk.waited)
        with disk.stuck():
            first = asyncio.ensure_future(database.write(lambda tx: put(tx, "a"), brief=True))
            await until(disk.waited, before + 1)
            # Asked for meanwhile: all of it is the next group.
            later = [
                asyncio.ensure_future(
                    database.write(lambda tx: put(tx, "b"), durable=durable, brief=True)
                )
                for durable in (False, True)
            ]
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not any(write.done() for write in (first, *later))
            assert count(database) == 0
        await asyncio.gather(first, *later)

    asyncio.run(pay())
    assert count(database) == 3


def test_what_is_not_durable_does_not_wait_for_the_disk(database: Database, disk: SlowDisk) -> None:
    async def reserve() -> None:
        with disk.stuck():
            await database.write(lambda tx: put(tx, "a"), durable=False, brief=True)

    before = len(disk.waited)
    asyncio.run(reserve())
    assert (len(disk.waited), count(database)) == (before, 1)


@pytest.mark.parametrize("size", [10, 20_000])
def test_no_loop_ever_waits_for_the_disk_whatever_it_writes_and_logs_begin_anew(
    tmp_path: Path, database: Database, disk: SlowDisk, size: int
) -> None:
    log = tmp_path / "node.db-wal"
    lengths: list[int] = []

    async def pay() -> None:
        for _ in range(600):
            for durable in (False, True):
                await database.write(lambda tx: put(tx, "x" * size), durable=durable, brief=True)
            lengths.append(log.stat().st_size)

    before = len(disk.waited)
    asyncio.run(pay())
    assert len(disk.waited) - before >= 600
    assert threading.get_ident() not in disk.waited[before:]
    # 1200 rows: their log is not kept for ever.
    assert max(lengths) < 16 * 1024 * 1024
    assert count(database) == 1200


def test_a_writer_of_another_thread_brings_the_log_into_the_file_too(
    tmp_path: Path, database: Database
) -> None:
    for _ in range(60):
        database.write_now(lambda tx: put(tx, "x" * 200_000))
    assert (tmp_path / "node.db-wal").stat().st_size < 9 * 1024 * 1024
    assert (tmp_path / "node.db").stat().st_size > 4 * 1024 * 1024
