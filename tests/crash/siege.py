"""One node, killed over and over on the same database while its customers buy.

Each trial starts the node with a kill point, lets everybody buy until it is dead, and checks what
it left; the next start checks what it makes of that. `STEPS` names the moments of a paid call
(numbers of story c) and of settling (story d) at which it can be made to die.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from eth_hash.auto import keccak

from inference.audit.report import Report
from inference.audit_command import run_audit
from inference.office import Office
from registry.terminal import Terminal
from tests.crash.customers import Attempt, Customer, rush
from tests.crash.invariants import Books, Inspector
from tests.crash.kill_points import KillPoint
from tests.crash.world import Node, World, kill

# Seconds after which a point that nobody reached is given up, and the node killed where it is.
_PATIENCE_S: Final = 8.0

_V = "(((address,address,address,address,address,uint40,bytes32),uint128),bytes,uint128)[]"


def _sent(signature: str) -> tuple[str]:
    return (keccak(signature.encode())[:4].hex(),)


TRANSFER = _sent(
    "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,"
    "uint8,bytes32,bytes32)"
)
DEPOSIT = _sent(
    "deposit((address,address,address,address,address,uint40,bytes32),uint128,address,bytes)"
)
_REFUND = _sent("multicall(bytes[])")
_CLAIM = _sent(f"claim({_V})")
_SETTLE = _sent("settle(address,address)")
_ANCHOR = _sent("anchor(string,uint64,bytes32,bytes)")

_RESERVED = ("INSERT INTO reservations", "'call'")
_PREPAID = ("UPDATE reservations", "'stream'")
_TAKEN = ("INSERT INTO authorizations",)
_SETTLING = ("UPDATE authorizations", "'settling'")
_SETTLED = ("UPDATE authorizations", "'settled'")
_RECEIPT = ("INSERT INTO receipts",)
_CLAIMED = ("INSERT INTO log_entries", '"action":"claim"')
_PAID_OUT = ("INSERT INTO log_entries", '"action":"settle"')
_REFUNDED = ("INSERT INTO log_entries", '"action":"refund"')
_BEFORE, _AFTER = "before commit", "after commit"

# Name → the point; its `nth` is the most that a random trial waits for.
STEPS: Final = {
    "c5 a call is reserved, not committed": KillPoint("sql", _RESERVED, _BEFORE, 12),
    "c5 a call is reserved": KillPoint("sql", _RESERVED, _AFTER, 12),
    "c5 a stream is prepaid, not committed": KillPoint("sql", _PREPAID, _BEFORE, 5),
    "c5 a stream is prepaid": KillPoint("sql", _PREPAID, _AFTER, 5),
    "c5 an authorisation is taken, not committed": KillPoint("sql", _TAKEN, _BEFORE, 5),
    "c5 an authorisation is taken": KillPoint("sql", _TAKEN, _AFTER, 5),
    "c5 a deposit is not sent": KillPoint("chain", DEPOSIT, "before", 2),
    "c5 a deposit is sent": KillPoint("chain", DEPOSIT, "after", 2),
    "c6 before the first token": KillPoint("engine", (), "before", 1),
    "c6 while it generates": KillPoint("engine", (), "before", 150),
    "c7 money is about to move": KillPoint("sql", _SETTLING, _AFTER, 5),
    "c7 an exact transfer is not sent": KillPoint("chain", TRANSFER, "before", 4),
    "c7 an exact transfer is sent": KillPoint("chain", TRANSFER, "after", 4),
    "c8 before the receipt": KillPoint("sql", _RECEIPT, "at", 12),
    "c8 all is written, not committed": KillPoint("sql", _RECEIPT, _BEFORE, 12),
    "c8 all is committed": KillPoint("sql", _RECEIPT, _AFTER, 12),
    "c8 a payment is settled, not committed": KillPoint("sql", _SETTLED, _BEFORE, 4),
    "c8 a payment is settled": KillPoint("sql", _SETTLED, _AFTER, 4),
    "c9 before the answer's head": KillPoint("http", ("head",), "before", 12),
    "c9 between head and body": KillPoint("http", ("head",), "after", 12),
    "c9 the answer has left": KillPoint("http", ("whole",), "after", 10),
    "c9 a stream's first piece has left": KillPoint("http", ("first",), "after", 4),
    "c9 before a stream's receipt": KillPoint("http", ("last",), "before", 4),
    "c9 a stream has left": KillPoint("http", ("last",), "after", 4),
    "d2 a claim is not sent": KillPoint("chain", _CLAIM, "before", 2),
    "d2 a claim is sent": KillPoint("chain", _CLAIM, "after", 2),
    "d4 a claim is noted, not committed": KillPoint("sql", _CLAIMED, _BEFORE, 2),
    "d4 a claim is noted": KillPoint("sql", _CLAIMED, _AFTER, 2),
    "d3 nothing is moved": KillPoint("chain", _SETTLE, "before", 2),
    "d3 what was claimed is moved": KillPoint("chain", _SETTLE, "after", 2),
    "d4 that is noted": KillPoint("sql", _PAID_OUT, _AFTER, 2),
    "d5 a head is signed, not committed": KillPoint(
        "sql", ("INSERT INTO checkpoints",), _BEFORE, 2
    ),
    "d5 a head is signed": KillPoint("sql", ("INSERT INTO checkpoints",), _AFTER, 2),
    "d6 a head is not sent": KillPoint("chain", _ANCHOR, "before", 2),
    "d6 a head is sent": KillPoint("chain", _ANCHOR, "after", 2),
    "d6 a head is anchored and noted": KillPoint("sql", ("UPDATE checkpoints",), _AFTER, 2),
    "a refund is reserved": KillPoint("sql", ("INSERT INTO reservations", "'refund'"), _AFTER, 1),
    "a refund is not sent": KillPoint("chain", _REFUND, "before", 1),
    "a refund is sent": KillPoint("chain", _REFUND, "after", 1),
    "a refund is noted": KillPoint("sql", _REFUNDED, _AFTER, 1),
    "while it starts, before it recovered": KillPoint(
        "sql", ("DELETE FROM reservations",), _BEFORE
    ),
    "while it starts": KillPoint("sql", ("INSERT INTO log_entries", '"kind":"start"'), "at"),
}


@dataclass
class Trial:
    """One life of the node, and what was wrong after it: sentences that begin with an invariant.

    `seed` and `nth` repeat it. `reached` is False when it was killed at a time, not at its point.
    """

    step: str
    nth: int
    after_s: float
    reached: bool = True
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        return {**self.__dict__, "outcomes": dict(self.outcomes)}


class Siege:
    """Customers around one world. Use it as a context manager: they share an event loop."""

    def __init__(self, world: World) -> None:
        self.world: Final = world
        self.customers: Final = [
            Customer("ann", world, "batch-settlement", 2),
            Customer("bob", world, "batch-settlement"),
            Customer("cid", world, "batch-settlement", 3),
            Customer("eve", world, "exact", 2),
        ]
        self.inspector: Final = Inspector(world, list(self.customers))
        self._runner: Final = asyncio.Runner()
        self.run: Final = self._runner.run

    def __enter__(self) -> Siege:
        return self

    def __exit__(self, *_: object) -> None:
        for customer in self.customers:
            self.run(customer.close())
        self._runner.close()

    def kill_at(self, step: str, nth: int) -> Trial:
        """Kill the node at the `nth` time of a step, or after `_PATIENCE_S`."""
        return self._live(Trial(step, nth, _PATIENCE_S), replace(STEPS[step], nth=nth))

    def kill_after(self, seconds: float) -> Trial:
        """Kill the node some seconds after it began to sell, wherever it is."""
        return self._live(Trial("at any moment", 0, seconds), None)

    def _live(self, trial: Trial, point: KillPoint | None) -> Trial:
        before = [len(customer.attempts) for customer in self.customers]
        node = self.world.start(point)
        if node.url:
            trial.wrong += self.inspector.after_restart(Books.read(self.world.database))
            self.run(self._besieged(node, trial))
        assert node.gone.wait(30)
        assert node.killed, f"the node ended by itself: {self.world.log.read_text()[-2000:]}"
        for customer, made in zip(self.customers, before, strict=True):
            trial.outcomes.update(map(_outcome, customer.attempts[made:]))
        trial.wrong += self.inspector.after_death(Books.read(self.world.remains()))
        return trial

    async def _besieged(self, node: Node, trial: Trial) -> None:
        buying = asyncio.ensure_future(rush(self.customers, node))
        await asyncio.wait([buying], timeout=trial.after_s)
        trial.reached = node.gone.is_set()
        kill(node.pid)
        await buying

    def peace(self) -> list[str]:
        """Let the node live: everybody buys again, all is claimed, and an audit finds nothing."""
        node = self.world.start()
        wrong = self.inspector.after_restart(Books.read(self.world.database))
        for customer in self.customers:
            for stream in (False, True):
                attempt = self.run(customer.buy(stream=stream))
                if attempt.outcome != "answered":
                    wrong.append(f"9: {customer.name} cannot buy any more: {attempt.why}")
        with _office(self.world) as office:
            office.settlement.tick()
            office.settlement.anchor()
        wrong += [f"10: {check.name}: {check.detail}" for check in self._audit(node).failed]
        node.stop()
        books = Books.read(self.world.database)
        return [
            *wrong,
            *self.inspector.after_death(books),
            *self.inspector.after_restart(books),
            *self.inspector.unclaimed(books),
        ]

    def _audit(self, node: Node) -> Report:
        return run_audit(self.world.settings, node.url, Terminal(as_json=True))


@contextmanager
def _office(world: World) -> Iterator[Office]:
    office = Office.open(world.settings)
    try:
        yield office
    finally:
        office.close()


def _outcome(attempt: Attempt) -> str:
    return f"{attempt.outcome} {attempt.status or ''}{' stream' if attempt.stream else ''}".strip()


def random_trial(siege: Siege, dice: random.Random) -> Trial:
    """Kill at a random step, or one time in four at a random moment."""
    if dice.random() < 0.25:
        return siege.kill_after(dice.uniform(0.02, 3.0))
    step = dice.choice(list(STEPS))
    return siege.kill_at(step, dice.randint(1, STEPS[step].nth))
