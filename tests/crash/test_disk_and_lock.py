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

from inference.payments.channel import SCHEME
from inference.payments.exact import SCHEME as EXACT
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
    world, node = siege.world, siege.world.start()
    assert siege.inspector.after_restart(Books.read(world.database)) == []
    # Nothing of these is in flight: one has a channel, one is about to deposit, one pays each call.
    known, new, each = (
        Customer(f"{what} amid {trouble.__name__}", world, scheme)
        for what, scheme in (("known", SCHEME), ("new", SCHEME), ("each", EXACT))
    )
    idle = [known, new, each]
    siege.inspector.customers += idle
    everybody = [*idle, *siege.customers]
    assert siege.run(known.buy()).outcome == "answered"

    async def through() -> tuple[list[Attempt], set[str]]:
        # In flight when the trouble begins: these end well, or uncharged.
        flying = asyncio.ensure_future(rush(siege.customers, node, calls=4))
        while not any(c.attempts and c.attempts[-1].outcome == "answered" for c in siege.customers):
            await asyncio.sleep(0)
        with trouble(world, node):
            troubled = await asyncio.gather(*(c.buy() for c in everybody))
            async with httpx.AsyncClient() as stranger:
                body = {"model": MODEL, "messages": [{"role": "user", "content": "how much?"}]}
                assert (await stranger.post(world.url + PATH, json=body)).status_code == 402
            # Nothing is written meanwhile: these were in flight all the time.
            reserved = {row["channel_id"] for row in Books.read(world.database).reservations}
        await flying
        return troubled, reserved

    troubled, reserved = siege.run(through())
    for customer, attempt in zip(everybody, troubled, strict=True):
        if not reserved.isdisjoint(customer.ceilings) and "channel_busy" in attempt.why:
            # The ceiling it shares with its own call in flight is used up: to say so is no write.
            assert (attempt.outcome, attempt.status) == ("refused", 402), attempt.why
        else:
            assert (attempt.outcome, attempt.status) == ("refused", 503), attempt.why
            assert "database" in attempt.why
    assert all(attempt.status == 503 for attempt in troubled[: len(idle)])
    assert [siege.run(c.buy()).outcome for c in everybody] == ["answered"] * len(everybody)
    node.kill()
    assert siege.inspector.after_death(Books.read(world.remains())) == []
    for customer in idle:
        siege.run(customer.close())


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
