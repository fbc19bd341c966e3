"""Several nodes on one PostgreSQL: who lives, what was kept, and who waits for whom."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, text

from inference.audit.bodies import IncidentBody, entry_of
from inference.audit.log import AuditLog
from inference.database import Database, DatabaseError
from inference.errors import NodeError, PaymentRefusedError
from inference.payments import books
from inference.payments.authorizations import AuthorizationBook
from inference.payments.ledger import ChannelLedger
from inference.payments.reservation import Reservation
from inference.succession import Succession
from tests.inference.payments.payer import NOW, Payer, onchain
from tests.postgres import PostgresServer, name_in
from tests.severed import SeveredWay

OWNER: Any = {"chain_id": 31337, "channels": "0xC", "node": "0xN"}
LEDGER = ChannelLedger()
LOG = AuditLog("example.org/log")
PAYER = Payer()
ID = f"0x{PAYER.channel_id.hex()}"


@pytest.fixture
def name(postgres: PostgresServer) -> Iterator[str]:
    url = postgres.create()
    yield name_in(url)
    postgres.drop(url)


@pytest.fixture
def way(postgres: PostgresServer) -> Iterator[SeveredWay]:
    with SeveredWay(postgres.folder) as way:
        yield way


@pytest.fixture
def node(way: SeveredWay, name: str) -> Iterator[Database]:
    """A node whose way to the server can be cut."""
    with Database(way.url(name), **OWNER) as node:
        node.write_now(lambda tx: tx.execute(text("CREATE TABLE t (x TEXT UNIQUE)")) and None)
        succession(node).end_dead()
        yield node


@pytest.fixture
def other(postgres: PostgresServer, name: str, node: Database) -> Iterator[Database]:
    """Another node on the same database."""
    with Database(postgres.url(name), **OWNER) as other:
        yield other


def put(tx: Connection, value: str) -> str:
    tx.execute(text("INSERT INTO t VALUES (:x)"), {"x": value})
    return value


def rows(database: Database) -> list[str]:
    found = database.read(lambda tx: tx.execute(text("SELECT x FROM t ORDER BY x")).all())
    return [row.x for row in found]


def reserve(node: Database, ceiling: int = 100) -> Reservation:
    return node.write_now(
        lambda tx: LEDGER.reserve(
            tx, PAYER.pays(ceiling), quote=100, least=1, state=onchain(10_000), now=NOW
        )
    )


def charged(node: Database) -> int:
    account = node.read(lambda tx: LEDGER.account(tx, ID))
    assert account is not None
    return account.charged


def succession(node: Database) -> Succession:
    return Succession(node, LEDGER, AuthorizationBook())


# What was kept.


def test_a_commit_that_never_arrived_runs_again(node: Database, way: SeveredWay) -> None:
    runs = []
    way.at_commit = "before"
    assert node.write_now(lambda tx: (put(tx, "a"), runs.append(1))[0]) == "a"
    assert (rows(node), len(runs)) == (["a"], 2)


@pytest.mark.parametrize("durable", [True, False])
def test_a_commit_whose_answer_was_lost_is_found_and_does_not_run_again(
    node: Database, way: SeveredWay, durable: bool
) -> None:
    runs = []
    way.at_commit = "after"
    kept = node.write_now(lambda tx: (put(tx, "a"), runs.append(1))[0], durable=durable)
    assert (kept, rows(node), len(runs)) == ("a", ["a"], 1)
    node.write_now(lambda tx: put(tx, "b"))
    assert rows(node) == ["a", "b"]


def test_what_was_kept_is_told_also_when_another_node_ended_us_meanwhile(
    node: Database, way: SeveredWay, other: Database
) -> None:
    taken = reserve(node)
    before = node.instance

    def last(tx: Connection) -> int:
        way.closed = True
        return LEDGER.commit(tx, taken, 60).actual

    async def go() -> int:
        way.at_commit = "after"
        committing = asyncio.ensure_future(node.write(last))
        while not await asyncio.to_thread(succession(other).end_dead):
            await asyncio.sleep(0)
        way.closed = False
        return await committing

    assert asyncio.run(go()) == 60
    assert charged(node) == charged(other) == 60
    assert node.instance != before


def test_while_the_server_cannot_be_reached_nothing_is_written_and_then_all_is_well(
    node: Database, way: SeveredWay
) -> None:
    way.closed = True
    way.cut()
    for _ in range(2):
        with pytest.raises(DatabaseError, match="cannot be reached"):
            node.write_now(lambda tx: put(tx, "a"))
    with pytest.raises(DatabaseError, match="cannot be reached"):
        rows(node)
    way.closed = False
    node.write_now(lambda tx: put(tx, "b"))
    assert rows(node) == ["b"]


# Who lives.


def test_a_node_that_was_cut_off_goes_on_as_what_it_was(node: Database, way: SeveredWay) -> None:
    before, taken = node.instance, reserve(node)
    way.cut()
    node.write_now(lambda tx: LEDGER.commit(tx, taken, 60))
    assert (node.instance, charged(node)) == (before, 60)


def test_a_node_that_lives_is_never_ended(node: Database, other: Database) -> None:
    taken = reserve(node)
    assert succession(other).end_dead() == []
    node.write_now(lambda tx: LEDGER.commit(tx, taken, 60))
    assert charged(other) == 60


def test_what_another_node_ended_cannot_be_charged_any_more(
    node: Database, way: SeveredWay, other: Database
) -> None:
    before, taken = node.instance, reserve(node)
    way.closed = True
    way.cut()
    while not (ended := succession(other).end_dead()):
        pass
    assert [call.id for recovered in ended for call in recovered.calls] == [taken.id]
    way.closed = False
    for end in (LEDGER.commit, lambda tx, own, _: LEDGER.release(tx, own)):
        with pytest.raises(NodeError, match="has ended already"):
            node.write_now(lambda tx, end=end: end(tx, taken, 60))
    assert node.instance != before
    assert charged(node) == 0
    node.write_now(lambda tx: LEDGER.commit(tx, reserve_in(tx), 60))
    assert charged(other) == 60


def reserve_in(tx: Connection) -> Reservation:
    return LEDGER.reserve(tx, PAYER.pays(100), quote=100, state=onchain(10_000), now=NOW)


def test_a_killed_node_is_ended_once_and_its_channel_is_free_again(
    postgres: PostgresServer, name: str, node: Database, other: Database
) -> None:
    program = f"""
import sys
from inference.database import Database
node = Database({postgres.url(name)!r}, **{OWNER!r})
print(node.instance, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        theirs = process.stdout.readline().strip()
        taken = reserve(node).id
        node.write_now(
            lambda tx: tx.execute(text(f"UPDATE reservations SET instance = '{theirs}'")) and None
        )
        assert succession(node).end_dead() == succession(other).end_dead() == []
        process.kill()
    ended = []
    while not ended:
        for survivor in (node, other):
            ended += succession(survivor).end_dead()
    [recovered] = ended
    assert [call.id for call in recovered.calls] == [taken]
    node.write_now(lambda tx: LEDGER.commit(tx, reserve_in(tx), 60))
    assert charged(other) == 60


# Who waits for whom.


def test_two_nodes_append_to_one_log_without_gaps_and_never_deadlock(
    postgres: PostgresServer, name: str, node: Database, other: Database
) -> None:
    payers = [Payer(salt=bytes([i]) * 32) for i in range(4)]

    def work(tx: Connection, at: int, order: int) -> int:
        for payer in payers[::order]:
            LEDGER.mirror(tx, f"0x{payer.channel_id.hex()}", onchain(10_000, block=at + 2))
        seq = LOG.next_position(tx).seq
        LOG.append(tx, entry_of(seq, IncidentBody("test", "", "", at)))
        return seq

    def open_all(tx: Connection) -> None:
        for payer in payers:
            LEDGER.reserve(tx, payer.pays(100), quote=100, state=onchain(10_000), now=NOW)

    async def crowd() -> list[int]:
        writes = [
            who.write(lambda tx, at=at, order=order: work(tx, at, order))
            for at in range(60)
            for who, order in ((node, 1), (other, -1))
        ]
        return await asyncio.gather(*writes)

    node.write_now(open_all)
    seqs = asyncio.run(crowd())
    assert sorted(seqs) == list(range(120))
    with_all = other.read(lambda tx: LOG.checkpoint(tx))
    assert (with_all.size, with_all.root) == (120, node.read(lambda tx: LOG.root(tx, 120)))
    [(deadlocks,)] = postgres.run(
        f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{name}'", name
    )
    assert deadlocks == 0


def test_what_is_not_durable_does_not_wait_for_another_nodes_turn(
    node: Database, other: Database
) -> None:
    async def go() -> None:
        entered, leave = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def hold(tx: Connection) -> None:
            loop.call_soon_threadsafe(entered.set)
            asyncio.run_coroutine_threadsafe(leave.wait(), loop).result()

        holding = asyncio.ensure_future(node.write(hold))
        await entered.wait()
        await other.write(lambda tx: put(tx, "lazy"), durable=False)
        durable = asyncio.ensure_future(other.write(lambda tx: put(tx, "durable")))
        assert await asyncio.to_thread(rows, other) == ["lazy"]
        assert not durable.done()
        leave.set()
        await asyncio.gather(holding, durable)

    asyncio.run(go())
    assert rows(node) == ["durable", "lazy"]


@pytest.mark.parametrize("known", [True, False])
def test_of_calls_at_two_nodes_at_once_a_channel_takes_as_many_as_at_one(
    node: Database, other: Database, known: bool
) -> None:
    ledger, payers = ChannelLedger(in_flight=1), [Payer(salt=bytes([i]) * 32) for i in range(30)]

    def take(tx: Connection, payer: Payer) -> Reservation:
        return ledger.reserve(tx, payer.pays(100), quote=100, state=onchain(10_000), now=NOW)

    def open_all(tx: Connection) -> None:
        for payer in payers:
            ledger.release(tx, take(tx, payer))

    async def crowd() -> list[object]:
        writes = [
            who.write(lambda tx, payer=payer: take(tx, payer), durable=False)
            for payer in payers
            for who in (node, other)
        ]
        return await asyncio.gather(*writes, return_exceptions=True)

    if known:
        node.write_now(open_all)
    results = asyncio.run(crowd())
    refused = [result for result in results if isinstance(result, PaymentRefusedError)]
    assert {refusal.code.rpartition("evm_")[2] for refusal in refused} == {"channel_busy"}
    assert len(results) - len(refused) == len(other.read(books.all_opened)) == len(payers)
