"""Pages of a log are examined in its order, in however many processes, whatever befalls them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from inference.audit.bodies import IncidentBody, entry_of
from inference.audit.chain_view import AuditTarget
from inference.audit.crew import PAGE, examined
from inference.audit.examination import Examiner, Row
from inference.audit.frontier import Frontier
from inference.audit.log import GENESIS
from inference.audit.merkle import ProofError, leaf_hash, root
from inference.errors import UnavailableError
from inference.receipts import issue
from tests.inference.receipt_samples import ANCHOR, CHAIN_ID, DOMAIN, NODE, REGISTRY, call

TARGET = AuditTarget(NODE.address, "example.org/log", CHAIN_ID, ANCHOR, REGISTRY)
COUNT = 2 * PAGE + 7


def log(count: int) -> list[bytes]:
    """A receipt now and then among incidents, which are made faster."""
    entries, prev = [], GENESIS
    for seq in range(count):
        if seq % 50 == 0:
            entry = issue(NODE, DOMAIN, call(), seq=seq, prev=prev).entry()
        else:
            entry = entry_of(seq, IncidentBody("test", "", "", seq))
        entries.append(entry.encode())
        prev = leaf_hash(entries[-1])
    return entries


ENTRIES = log(COUNT)


def rows(processes: int, examiner: Examiner | None = None) -> list[Row]:
    examiner = examiner or Examiner(TARGET)
    found = []
    for page, of_page in examined(examiner, iter(ENTRIES), 0, COUNT, processes=processes):
        assert page == ENTRIES[len(found) : len(found) + len(page)]
        found += of_page
    return found


@dataclass(frozen=True)
class Mortal(Examiner):
    """Is killed wherever it is not at home."""

    home: int = 0

    def page(self, start: int, page: Sequence[bytes]) -> list[Row]:
        if os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().page(start, page)


def test_more_processes_find_the_same_in_the_same_order() -> None:
    alone = rows(1)
    assert [row.leaf for row in alone] == [leaf_hash(data) for data in ENTRIES]
    assert rows(2) == alone
    assert not any(row.finding or row.signature or row.charge for row in alone)
    assert sum(row.call is not None for row in alone) == COUNT // 50 + 1


def test_a_process_that_is_killed_costs_time_and_nothing_else() -> None:
    assert rows(2, Mortal(TARGET, os.getpid())) == rows(1)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_was_read_before_a_node_went_away_is_examined_first(processes: int) -> None:
    def entries() -> Iterator[bytes]:
        yield from ENTRIES[: PAGE + 3]
        raise UnavailableError("gone")

    seen = 0
    with pytest.raises(UnavailableError, match="gone"):
        for page, _ in examined(Examiner(TARGET), entries(), 0, COUNT, processes=processes):
            seen += len(page)
    assert seen == PAGE + 3


def test_the_edge_of_a_tree_gives_its_root_at_every_size() -> None:
    leaves = [leaf_hash(bytes([n])) for n in range(70)]
    edge = Frontier()
    for size in range(71):
        assert edge.root() == root(leaves[:size])
        again = Frontier(edge.size, edge.hashes)
        assert again.root() == edge.root()
        if size < 70:
            edge.add(leaves[size])
    for size, hashes in ((1, []), (3, [bytes(32)]), (1, [bytes(31)]), (0, [bytes(32)])):
        with pytest.raises(ProofError):
            Frontier(size, hashes)
