"""Properties of the stored log: no gap, no rewrite, whatever fails and whoever appends."""

from __future__ import annotations

import asyncio
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from inference.audit import merkle
from inference.audit.bodies import IncidentBody, entry_of
from inference.audit.entry import parse_entry
from inference.audit.log import GENESIS, AuditLog
from inference.audit.tiled_log import TiledLog
from inference.audit.tiles import ENTRIES, split_entries, split_hashes, tiles_between
from inference.database import Database
from inference.errors import NodeError
from tests.inference.receipt_samples import ANCHOR, CHAIN_ID, NODE

LOG = AuditLog("example.org/log")


class Interrupted(NodeError):
    """What a member of a group fails with."""


def opened(folder: str) -> Database:
    url = f"sqlite:///{folder}/node.db"
    return Database(url, chain_id=CHAIN_ID, channels=ANCHOR, node=NODE.address)


async def together(
    nodes: tuple[Database, Database], group: list[tuple[int, int, bool]]
) -> list[object]:
    """Submit all at once: each appends some entries by one of two nodes, and may fail after."""

    def member(count: int, fails: bool) -> object:
        def append(tx: Connection) -> list[tuple[int, bytes, bytes]]:
            done = []
            for _ in range(count):
                seq = LOG.size(tx)
                at = LOG.append(tx, entry_of(seq, IncidentBody("test", "", f"{seq}", 0)))
                done.append((at.seq, at.leaf_hash, at.prev))
            if fails:
                raise Interrupted("after the appends")
            return done

        return append

    writes = [nodes[which].write(member(count, fails)) for which, count, fails in group]  # type: ignore[arg-type]
    return await asyncio.gather(*writes, return_exceptions=True)


GROUP = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 5), st.booleans()), min_size=1, max_size=12
)


@settings(max_examples=25)
@given(st.lists(GROUP, min_size=1, max_size=6))
def test_sequence_numbers_have_no_gap_and_every_earlier_root_stays(
    groups: list[list[tuple[int, int, bool]]],
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        opened(folder) as one,
        opened(folder) as two,
    ):
        told: list[tuple[int, bytes, bytes]] = []
        for group in groups:
            for (_, _, fails), outcome in zip(
                group, asyncio.run(together((one, two), group)), strict=True
            ):
                if fails:
                    assert isinstance(outcome, Interrupted)
                else:
                    assert isinstance(outcome, list)
                    told += outcome
            told.sort()
            check(two, told)


def check(database: Database, told: list[tuple[int, bytes, bytes]]) -> None:
    """What was told is the log: in order, chained, provable, and the same as tiles."""
    assert [seq for seq, _, _ in told] == list(range(len(told)))
    leaves = [leaf for _, leaf, _ in told]
    assert [prev for _, _, prev in told] == [GENESIS, *leaves][: len(told)]

    def look(tx: Connection) -> None:
        size = len(told)
        bodies = LOG.entry_bytes(tx, 0, size + 10)
        assert [parse_entry(data).seq for data in bodies] == list(range(size))
        assert [merkle.leaf_hash(data) for data in bodies] == leaves
        root = LOG.root(tx, size)
        assert root == merkle.root(leaves)
        for old in range(size + 1):
            proof = LOG.consistency_proof(tx, old, size)
            merkle.verify_consistency(old, size, merkle.root(leaves[:old]), root, proof)
        tiled = TiledLog(LOG)
        for tile in tiles_between(0, size):
            data = tiled.read(tx, tile)
            if tile.level == ENTRIES:
                assert split_entries(tile, data) == bodies[tile.start : tile.start + tile.width]
            elif tile.level == 0:
                assert list(split_hashes(tile, data)) == leaves[tile.start :][: tile.width]

    database.read(look)
