"""The chain is asked once whether a wallet may try, and never about one that need not be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from inference.database import Database
from inference.errors import UnavailableError
from inference.payments.plan_book import Claimed, PlanBook
from inference.payments.plans import Plans, Trial
from inference.trial_door import TrialDoor
from registry.errors import ChainUnreachableError
from tests.inference.receipt_samples import ANCHOR, CHAIN_ID, NODE

ALICE, BOB = "0x" + "aa" * 20, "0x" + "bb" * 20


@dataclass
class Chain:
    """What wallets hold; None is a chain that does not answer."""

    balances: dict[str, int | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    now: float = 0.0

    def balance_of(self, payer: str) -> int:
        self.asked.append(payer)
        balance = self.balances.get(payer, 0)
        if balance is None:
            raise ChainUnreachableError("no answer")
        return balance


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/node.db"
    with Database(url, chain_id=CHAIN_ID, channels=ANCHOR, node=NODE.address) as database:
        yield database


def door(database: Database, chain: Chain, trial: Trial | None) -> TrialDoor:
    book = PlanBook(Plans(trial=trial))
    return TrialDoor(book, database, chain.balance_of, lambda: chain.now)


def may_try(door: TrialDoor, payer: str) -> bool:
    return asyncio.run(door.may_try(payer))


def test_without_a_trial_or_a_balance_nobody_is_asked_about(database: Database) -> None:
    chain = Chain({ALICE: 10**9})
    assert not may_try(door(database, chain, None), ALICE)
    listed = door(database, chain, Trial("t", "calls", 1, allow=frozenset({BOB}), min_balance=5))
    assert may_try(listed, BOB)
    only = door(database, chain, Trial("t", "calls", 1, allow=frozenset({BOB})))
    assert not may_try(only, ALICE)
    assert chain.asked == []


def test_a_chain_that_does_not_answer_is_told_and_nobody_is_shut_out(database: Database) -> None:
    chain = Chain({ALICE: None})
    opened = door(database, chain, Trial("t", "calls", 1, min_balance=5))
    with pytest.raises(UnavailableError):
        may_try(opened, ALICE)
    chain.balances[ALICE] = 5
    assert may_try(opened, ALICE)


def test_who_holds_too_little_is_asked_about_again_only_later(database: Database) -> None:
    chain = Chain({ALICE: 4})
    opened = door(database, chain, Trial("t", "calls", 1, min_balance=5))
    assert [may_try(opened, ALICE) for _ in range(3)] == [False] * 3
    assert chain.asked == [ALICE]
    chain.balances[ALICE], chain.now = 5, 299.0
    assert not may_try(opened, ALICE)
    chain.now = 300.0
    assert may_try(opened, ALICE)


def test_who_began_may_go_on_wherever_the_tokens_are_now(database: Database) -> None:
    chain = Chain({ALICE: 5})
    opened = door(database, chain, Trial("t", "calls", 2, min_balance=5))
    assert may_try(opened, ALICE)
    claimed = Claimed(may_try=True)
    database.write_now(lambda tx: opened.book.take(tx, ALICE, "small", 1, claimed, at=1))
    chain.balances[ALICE] = 0
    assert may_try(opened, ALICE)
    assert chain.asked == [ALICE]
