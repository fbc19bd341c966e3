"""A disk that is full and a database that somebody else holds: 503, nothing lost, no restart."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.crash.customers import PATH, Attempt, Customer, rush
from tests.crash.invariants import Books
from tests.crash.siege import DEPOSIT, TRANSFER, Siege
from tests.crash.world import MODEL, Node, World


@contextmanager
def full_disk(_: World, node: Node) -> Iterator[None]:
    """Let no file of the node take another byte, as on a full disk."""
    _, hard = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def locked(world: World, _: Node) -> Iterator[None]:
    """Hold the database's write lock, as a backup or another program might."""
    connection = sqlite3.connect(world.database, isolation_level=None)
    connection.execute("PRAGMA busy_timeout = 30000")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@pytest.mark.parametrize("trouble", [full_disk, locked])
def test_calls_are_answered_503_and_the_same_node_goes_on_afterwards(
    siege: Siege, trouble: Callable[..., Iterator[None]]
) -> None:
    node = siege.world.start()
    assert siege.inspector.after_restart(Books.read(siege.world.database)) == []

    async def through() -> list[Attempt]:
        # In flight when the trouble begins: these end well, or uncharged.
        flying = asyncio.ensure_future(rush(siege.customers, node, calls=4))
        while not any(c.attempts and c.attempts[-1].outcome == "answered" for c in siege.customers):
            await asyncio.sleep(0)
        with trouble(siege.world, node):
            troubled = await asyncio.gather(*(c.buy() for c in siege.customers))
            async with httpx.AsyncClient() as stranger:
                body = {"model": MODEL, "messages": [{"role": "user", "content": "how much?"}]}
                assert (await stranger.post(siege.world.url + PATH, json=body)).status_code == 402
        await flying
        return troubled

    for attempt in siege.run(through()):
        assert (attempt.outcome, attempt.status) == ("refused", 503), attempt.why
        assert "database" in attempt.why
    assert [siege.run(c.buy()).outcome for c in siege.customers] == ["answered"] * 4
    node.kill()
    assert siege.inspector.after_death(Books.read(siege.world.remains())) == []


@pytest.mark.parametrize(
    ("scheme", "selector"), [("batch-settlement", DEPOSIT), ("exact", TRANSFER)]
)
def test_money_that_moves_just_as_the_disk_fills_is_written_down_once_there_is_room(
    siege: Siege, scheme: str, selector: tuple[str]
) -> None:
    world, node = siege.world, siege.world.start()
    mover, other = Customer(f"mover {scheme}", world, scheme), siege.customers[-1]
    siege.inspector.customers.append(mover)
    moved, room = threading.Event(), ExitStack()

    def fill() -> None:
        room.enter_context(full_disk(world, node))
        moved.set()

    world.watchman.act, world.watchman.act_on = fill, selector[0]

    async def through() -> Attempt:
        buying = asyncio.ensure_future(mover.buy())
        assert await asyncio.to_thread(moved.wait, 30)
        assert (await other.buy()).status == 503
        room.close()
        return await buying

    attempt = siege.run(through())
    assert attempt.outcome == "answered", attempt.why
    node.kill()
    assert siege.inspector.after_death(Books.read(world.remains())) == []
    siege.run(mover.close())
