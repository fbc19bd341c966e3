"""No sequence of calls, streams, crashes and vouchers charges above a signed ceiling or twice.

Hypothesis drives a ledger on a real database, two payers that sign what they like, and a chain
that keeps the contract's rules. On PostgreSQL two nodes serve in turn. After every step the books
are compared with what the payers really signed and what their calls really cost.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection

from inference.database import Database
from inference.errors import NodeError, PaymentRefusedError
from inference.payments.account import OnchainChannel
from inference.payments.channel import Voucher
from inference.payments.claim import Claim
from inference.payments.ledger import ChannelLedger, Recovered
from inference.payments.reservation import Reservation
from registry.signing.signer import recover
from tests.inference.payments.payer import NOW, Payer
from tests.postgres import PostgresServer

T = TypeVar("T")

# A file in memory: the same engine without waiting for a disk thousands of times.
MEMORY = Path("/dev/shm")
WHO = st.integers(0, 1)
AMOUNT = st.integers(1, 60)
SHARE = st.integers(0, 100)


@dataclass
class Side:
    """One payer: what it signed, what its calls cost, what the chain holds for it."""

    payer: Payer
    signed: set[int] = field(default_factory=set)
    accepted: int = 0
    told: int = 0
    actual: int = 0
    balance: int = 0
    claimed: int = 0
    withdraw: int = 0
    refunds: int = 0
    block: int = 1

    @property
    def id(self) -> str:
        return f"0x{self.payer.channel_id.hex()}"

    def state(self) -> OnchainChannel:
        return OnchainChannel(
            balance=self.balance,
            total_claimed=self.claimed,
            withdraw_amount=self.withdraw,
            withdraw_requested_at=NOW if self.withdraw else 0,
            refund_nonce=self.refunds,
            block=self.block,
            read_at=NOW,
        )

    def claim(self, claim: Claim) -> None:
        """Keep the contract's rules: replay is silent, the ceiling and the balance are firm."""
        digest = Voucher(self.payer.channel_id, claim.max_claimable, b"").digest(
            self.payer.terms.domain
        )
        assert recover(digest, claim.signature) == self.payer.key.address
        assert claim.total <= claim.max_claimable
        assert claim.total <= self.balance
        self.claimed = max(self.claimed, claim.total)
        self.block += 1


class LedgerMachine(RuleBasedStateMachine):
    """The node's side is `ledger` and `flying`; everything in `sides` is the world's."""

    def __init__(self, url: str, nodes: int) -> None:
        super().__init__()
        self.url, self.count = url, nodes
        self.ledger = ChannelLedger(in_flight=4)
        self.sides = [Side(Payer(salt=bytes([i]) * 32)) for i in range(2)]
        self.flying: list[tuple[Side, Reservation]] = []
        self.ended: list[Reservation] = []
        self.open()

    def open(self) -> None:
        self.nodes = [
            Database(self.url, chain_id=31337, channels="0xC", node="0xN")
            for _ in range(self.count)
        ]
        self.database = self.nodes[0]

    def do(self, work: Callable[[Connection], T]) -> T:
        """Have the next node's turn."""
        self.nodes.append(self.nodes.pop(0))
        return self.nodes[0].write_now(work)

    def restart(self) -> list[Recovered]:
        """Every node ends and comes back; the first finds what all of them left."""
        ended = [node.instance for node in self.nodes]
        self.teardown()
        self.open()
        return [self.do(lambda tx, e=e: self.ledger.recover(tx, e)) for e in ended]

    def teardown(self) -> None:
        for node in self.nodes:
            node.close()

    @initialize(amounts=st.tuples(st.integers(50, 2_000), st.integers(50, 2_000)))
    def fund(self, amounts: tuple[int, int]) -> None:
        for who, amount in enumerate(amounts):
            self.deposit(who, amount)

    @rule(who=WHO, amount=st.integers(1, 200))
    def deposit(self, who: int, amount: int) -> None:
        side = self.sides[who]
        side.balance += amount
        side.block += 1

    @rule(who=WHO, quote=AMOUNT, least=SHARE, stream=st.booleans(), off=st.integers(-40, 40))
    def call(self, who: int, quote: int, least: int, stream: bool, off: int) -> None:
        """Build upon the charge told, or be off by some; small offsets are half of the cases."""
        side = self.sides[who]
        base = side.told + (off if abs(off) > 20 else 0)
        if base + quote >= 0:
            self.present(side, base + quote, quote, least, stream)

    @rule(
        who=WHO,
        quotes=st.lists(AMOUNT, min_size=2, max_size=4),
        least=st.integers(0, 30),
        shares=st.lists(st.integers(30, 100), min_size=4, max_size=4),
        streams=st.integers(0, 15),
    )
    def burst(
        self, who: int, quotes: list[int], least: int, shares: list[int], streams: int
    ) -> None:
        """Several calls at once, each upon the same charge; they end in the order they came."""
        side, base = self.sides[who], self.sides[who].told
        for i, quote in enumerate(quotes):
            self.present(side, base + quote, quote, least, bool(streams >> i & 1))
        for share in shares:
            if self.flying:
                self.settle(*self.flying.pop(0), share)

    @precondition(lambda self: any(side.signed for side in self.sides))
    @rule(who=WHO, quote=AMOUNT, data=st.data(), stream=st.booleans())
    def replay(self, who: int, quote: int, data: st.DataObject, stream: bool) -> None:
        side = self.sides[who]
        if side.signed:
            self.present(side, data.draw(st.sampled_from(sorted(side.signed))), quote, 0, stream)

    def present(self, side: Side, ceiling: int, quote: int, least: int, stream: bool) -> None:
        payment = side.payer.pays(ceiling)
        side.signed.add(ceiling)

        def begin(tx: Any) -> Reservation:
            taken = self.ledger.reserve(
                tx, payment, quote=quote, least=quote * least // 100, state=side.state(), now=NOW
            )
            return self.ledger.prepay(tx, taken) if stream else taken

        try:
            reservation = self.do(begin)
        except PaymentRefusedError:
            return
        assert ceiling <= side.balance - side.withdraw
        side.accepted = max(side.accepted, ceiling)
        side.told += reservation.told
        self.flying.append((side, reservation))

    @precondition(lambda self: self.flying)
    @rule(share=SHARE, data=st.data())
    def commit(self, share: int, data: st.DataObject) -> None:
        self.settle(*self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1))), share)

    def settle(self, side: Side, reservation: Reservation, share: int) -> None:
        self.ended.append(reservation)
        actual = reservation.amount * share // 100
        try:
            done = self.do(lambda tx: self.ledger.commit(tx, reservation, actual))
        except PaymentRefusedError:
            assert reservation.purpose == "call"
            self.do(lambda tx: self.ledger.release(tx, reservation))
            return
        assert 0 <= done.told <= reservation.amount
        if reservation.purpose == "call":
            side.told += done.told
            assert done.cumulative == side.told
        side.actual += actual

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        side, reservation = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        self.ended.append(reservation)
        self.do(lambda tx: self.ledger.release(tx, reservation))
        if reservation.purpose == "stream":
            # Nobody was told: the payer is at what the ledger says, or learns it by a correction.
            side.told = self.account(side).charged

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def crash_within_a_commit(self, data: st.DataObject) -> None:
        _, reservation = data.draw(st.sampled_from(self.flying))

        def half(tx: Any) -> None:
            self.ledger.commit(tx, reservation, 0)
            raise NodeError("the node stopped before COMMIT")

        with pytest.raises(NodeError):
            self.do(half)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def end_twice(self, data: st.DataObject) -> None:
        reservation = data.draw(st.sampled_from(self.ended))
        for end in (
            lambda tx: self.ledger.commit(tx, reservation, reservation.amount),
            lambda tx: self.ledger.release(tx, reservation),
        ):
            with pytest.raises(NodeError):
                self.do(end)

    @rule()
    def crash(self) -> None:
        found = [call for recovered in self.restart() for call in recovered.calls]
        assert {r.id for r in found} == {r.id for _, r in self.flying}
        self.ended += [r for _, r in self.flying]
        self.flying = []
        for side in self.sides:
            if self.known(side):
                side.told = self.account(side).charged

    @rule(who=WHO, amount=st.integers(1, 400))
    def withdraw(self, who: int, amount: int) -> None:
        side = self.sides[who]
        if not side.withdraw and amount <= side.balance - side.claimed:
            side.withdraw = amount
            side.block += 1

    @rule(who=WHO)
    def finalize(self, who: int) -> None:
        """The delay is longer than our view of the chain is trusted, so we claim before."""
        side = self.sides[who]
        if side.withdraw:
            self.mirror(side)
            self.claim()
            side.balance -= min(side.withdraw, side.balance - side.claimed)
            side.withdraw = 0
            side.block += 1
            self.mirror(side)

    @rule()
    def claim(self) -> None:
        for claim in self.database.read(self.ledger.claims):
            side = next(s for s in self.sides if s.id == claim.channel_id)
            if claim.total <= side.balance:
                side.claim(claim)
                self.mirror(side)

    @rule(who=WHO, part=st.sampled_from([None, 1, 20, 300]), crash=st.booleans())
    def refund(self, who: int, part: int | None, crash: bool) -> None:
        side = self.sides[who]
        payment = side.payer.refunds(side.told, part)
        side.signed.add(side.told)
        try:
            plan = self.do(
                lambda tx: self.ledger.reserve_refund(tx, payment, state=side.state(), now=NOW)
            )
        except PaymentRefusedError:
            return
        if plan.claim is not None:
            side.claim(plan.claim)
        given = min(plan.amount, side.balance - side.claimed)
        assert given == plan.amount
        side.balance -= given
        side.withdraw = min(side.withdraw, side.balance - side.claimed)
        side.refunds += 1
        side.block += 1
        flying = len(self.flying)
        self.present(side, side.told + 1, 1, 0, False)
        assert len(self.flying) == flying, "a call was admitted while its channel is refunded"
        reservation = plan.reservation
        if crash:
            [reservation] = [own for recovered in self.restart() for own in recovered.refunds]
            self.ended += [r for _, r in self.flying]
            self.flying = []
        self.do(lambda tx: self.ledger.finish_refund(tx, reservation, side.state()))
        for other in self.sides:
            if self.known(other):
                other.told = self.account(other).charged

    @invariant()
    def the_books_are_what_was_signed_and_used(self) -> None:
        for side in self.sides:
            if not self.known(side):
                assert side.actual == 0
                continue
            account = self.account(side)
            held = sum(r.amount for s, r in self.flying if s is side and r.purpose == "stream")
            assert side.actual == account.charged - account.credit - held
            assert account.charged <= account.signed_max
            assert account.signed_max == side.accepted
            assert side.claimed <= side.actual <= account.signed_max
            for claim in self.database.read(self.ledger.claims):
                if claim.channel_id == side.id:
                    assert side.claimed < claim.total <= side.actual
                    assert claim.total <= claim.max_claimable

    def mirror(self, side: Side) -> None:
        self.do(lambda tx: self.ledger.mirror(tx, side.id, side.state()))

    def known(self, side: Side) -> bool:
        return self.database.read(lambda tx: self.ledger.account(tx, side.id)) is not None

    def account(self, side: Side) -> Any:
        return self.database.read(lambda tx: self.ledger.account(tx, side.id))


RUNS = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_the_books_of_one_node_hold_on_sqlite() -> None:
    with ExitStack() as folders:

        def machine() -> LedgerMachine:
            memory = MEMORY if MEMORY.is_dir() else None
            folder = folders.enter_context(tempfile.TemporaryDirectory(dir=memory))
            return LedgerMachine(f"sqlite:///{folder}/node.db", nodes=1)

        run_state_machine_as_test(machine, settings=RUNS)


def test_the_books_of_two_nodes_hold_on_postgresql(postgres: PostgresServer) -> None:
    few = settings(RUNS, max_examples=8)
    run_state_machine_as_test(lambda: LedgerMachine(postgres.create(), nodes=2), settings=few)
