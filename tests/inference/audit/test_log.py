"""The log in a real database: gap-free, provable, and the same for every process that appends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, func, select

from inference.audit import merkle
from inference.audit.bodies import IncidentBody, entry_of
from inference.audit.checkpoint import Checkpoint, checkpoint_domain, sign
from inference.audit.entry import INCIDENT, Entry, parse_entry
from inference.audit.log import GENESIS, AuditLog, LogError, LogPosition
from inference.audit.merkle import ProofError
from inference.database import Database
from inference.schema import log_nodes
from tests.inference.receipt_samples import ANCHOR, CHAIN_ID, NODE

LOG = AuditLog("example.org/log")
DOMAIN = checkpoint_domain(CHAIN_ID, ANCHOR)


def open_database(path: Path) -> Database:
    return Database(f"sqlite:///{path}", chain_id=CHAIN_ID, channels=ANCHOR, node=NODE.address)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_database(tmp_path / "node.db") as opened:
        yield opened


def append(tx: Connection, detail: str = "") -> LogPosition:
    seq = LOG.next_position(tx).seq
    return LOG.append(tx, entry_of(seq, IncidentBody("test", "", detail or f"entry {seq}", 0)))


def fill(database: Database, count: int) -> list[bytes]:
    def many(tx: Connection) -> list[bytes]:
        return [append(tx).leaf_hash for _ in range(count)]

    return database.write_now(many)


def test_an_entry_out_of_turn_is_refused(database: Database) -> None:
    fill(database, 2)
    for seq in (0, 1, 3):
        entry = entry_of(seq, IncidentBody("test", "", "", 0))
        with pytest.raises(LogError, match=f"entry {seq} cannot stand at 2"):
            database.write_now(lambda tx, entry=entry: LOG.append(tx, entry))
    assert database.read(LOG.size) == 2


def test_a_proof_beyond_the_log_is_refused(database: Database) -> None:
    fill(database, 3)
    with pytest.raises(ProofError, match="has 3 entries, not 4"):
        database.read(lambda tx: LOG.inclusion_proof(tx, 0, 4))
    with pytest.raises(ProofError, match="leaf 3 is not in a tree of 3"):
        database.read(lambda tx: LOG.inclusion_proof(tx, 3, 3))
    with pytest.raises(ProofError, match="no tree of 3 leaves comes before one of 2"):
        database.read(lambda tx: LOG.consistency_proof(tx, 3, 2))


def test_a_second_root_for_one_size_is_not_signed_into_the_log(database: Database) -> None:
    first = sign(Checkpoint(LOG.origin, 1, b"\x01" * 32), NODE, DOMAIN)
    second = sign(Checkpoint(LOG.origin, 1, b"\x02" * 32), NODE, DOMAIN)
    database.write_now(lambda tx: LOG.save_checkpoint(tx, first))
    database.write_now(lambda tx: LOG.save_checkpoint(tx, first))
    with pytest.raises(LogError, match="another root"):
        database.write_now(lambda tx: LOG.save_checkpoint(tx, second))
    assert database.read(LOG.note) == first.note


def test_a_damaged_table_is_noticed(database: Database) -> None:
    fill(database, 8)
    database.write_now(lambda tx: tx.execute(delete(log_nodes).where(log_nodes.c.level == 2)))
    with pytest.raises(LogError, match="tables are damaged"):
        database.read(lambda tx: LOG.inclusion_proof(tx, 0, 8))


def test_a_failed_append_leaves_no_gap(database: Database) -> None:
    fill(database, 3)

    def fails(tx: Connection) -> None:
        append(tx)
        raise LogError("after the append")

    with pytest.raises(LogError, match="after the append"):
        database.write_now(fails)
    assert database.write_now(append).seq == 3


def test_the_first_entry_points_to_nothing_and_each_next_to_the_one_before(
    database: Database,
) -> None:
    positions = [database.write_now(append) for _ in range(5)]
    assert [position.seq for position in positions] == [0, 1, 2, 3, 4]
    assert [position.prev for position in positions] == [
        GENESIS,
        *(position.leaf_hash for position in positions[:-1]),
    ]
    assert database.read(LOG.next_position).prev == positions[-1].leaf_hash


def test_every_size_has_the_root_and_proofs_of_its_leaves(database: Database) -> None:
    leaves = fill(database, 33)

    def check(tx: Connection) -> None:
        for size in range(34):
            assert LOG.root(tx, size) == merkle.root(leaves[:size])
        for seq in range(33):
            for size in (seq + 1, 33):
                proof = LOG.inclusion_proof(tx, seq, size)
                merkle.verify_inclusion(leaves[seq], seq, size, proof, LOG.root(tx, size))
        for old in range(34):
            proof = LOG.consistency_proof(tx, old, 33)
            merkle.verify_consistency(old, 33, LOG.root(tx, old), LOG.root(tx, 33), proof)

    database.read(check)


def test_every_complete_subtree_is_stored_once(database: Database) -> None:
    fill(database, 21)
    count = database.read(lambda tx: tx.scalar(select(func.count()).select_from(log_nodes)))
    assert count == 10 + 5 + 2 + 1


def test_two_processes_append_in_turn(tmp_path: Path) -> None:
    with open_database(tmp_path / "node.db") as one, open_database(tmp_path / "node.db") as two:
        positions = [(one if i % 2 else two).write_now(append) for i in range(9)]
        assert [position.seq for position in positions] == list(range(9))
        leaves = [position.leaf_hash for position in positions]
        assert one.read(LOG.checkpoint).root == merkle.root(leaves)
        assert two.read(LOG.checkpoint) == Checkpoint(LOG.origin, 9, merkle.root(leaves))


def test_entries_come_back_byte_for_byte_at_most_a_thousand(database: Database) -> None:
    leaves = fill(database, 1005)
    page = database.read(lambda tx: LOG.entry_bytes(tx, 2, 5000))
    assert [merkle.leaf_hash(data) for data in page] == leaves[2:1002]
    assert [parse_entry(data).seq for data in page[:3]] == [2, 3, 4]
    assert database.read(lambda tx: LOG.entry_bytes(tx, 1005, 1010)) == ()


def test_checkpoints_are_kept_and_marked_as_anchored(database: Database) -> None:
    assert database.read(LOG.note) is None
    assert database.read(LOG.anchored_size) == 0
    fill(database, 2)
    small = sign(database.read(LOG.checkpoint), NODE, DOMAIN)
    fill(database, 3)
    large = sign(database.read(LOG.checkpoint), NODE, DOMAIN)

    def keep(tx: Connection) -> None:
        LOG.save_checkpoint(tx, small)
        LOG.save_checkpoint(tx, large)
        LOG.mark_anchored(tx, 2, "0x" + "01" * 32)

    database.write_now(keep)
    assert database.read(LOG.note) == large.note
    assert database.read(lambda tx: LOG.note(tx, 2)) == small.note
    assert database.read(lambda tx: LOG.note(tx, 3)) is None
    assert database.read(LOG.anchored_size) == 2


def test_a_page_of_large_entries_ends_early(database: Database) -> None:
    def large(tx: Connection) -> None:
        for seq in range(150):
            LOG.append(tx, Entry(seq, INCIDENT, {"detail": "x" * 65_000}))

    database.write_now(large)
    first = database.read(lambda tx: LOG.entry_bytes(tx, 0, 150))
    assert len(first) == 129
    rest = database.read(lambda tx: LOG.entry_bytes(tx, len(first), 150))
    assert [parse_entry(data).seq for data in rest] == list(range(129, 150))
