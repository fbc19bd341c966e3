"""No sequence of copies, outcomes and crashes moves an authorisation's money twice."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inference.database import Database
from inference.errors import AlreadyAnsweredError, InProgressError, PaymentRefusedError
from inference.payments.authorizations import AuthorizationBook
from inference.payments.exact import VerifiedAuthorization, verify_authorization
from inference.payments.reservation import Reservation
from tests.inference.payments.payer import NOW, RECEIVER, TOKEN, Payer

MEMORY = Path("/dev/shm")
REQUEST = b"the request it pays for"
WHICH = st.integers(0, 2)


def payment(which: int) -> VerifiedAuthorization:
    signed = Payer().authorize(value=5, nonce=bytes([which]) * 32)
    return verify_authorization(signed, token=TOKEN, pay_to=RECEIVER, amount=5, now=NOW)


class AuthorizationMachine(RuleBasedStateMachine):
    """The token moves an authorisation at most once and remembers it; we must never try again."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None)
        self.book = AuthorizationBook()
        self.working: dict[int, Reservation] = {}
        self.sent: dict[int, Reservation] = {}
        self.moved: set[int] = set()
        self.answered: set[int] = set()
        self.open()

    def open(self) -> None:
        self.database = Database(
            f"sqlite:///{self.folder}/node.db", chain_id=31337, channels="0xC", node="0xN"
        )
        self.do = self.database.write_now

    def teardown(self) -> None:
        self.database.close()
        shutil.rmtree(self.folder)

    @rule(which=WHICH)
    def present(self, which: int) -> None:
        try:
            reservation = self.do(
                lambda tx: self.book.reserve(tx, payment(which), now=NOW, binding=REQUEST)
            )
        except PaymentRefusedError as error:
            assert error.code == "settlement_pending"
            assert which in self.sent
            return
        except InProgressError:
            assert which in self.working
            return
        except AlreadyAnsweredError:
            assert which in self.answered
            return
        assert which not in self.working | self.sent.keys()
        assert which not in self.answered
        assert bool(reservation.paid_in) == (which in self.moved)
        self.working[which] = reservation

    @rule(which=WHICH)
    def present_with_another_request(self, which: int) -> None:
        """Takes nobody's place; gets what was given back, and then only for a moment."""
        try:
            reservation = self.do(
                lambda tx: self.book.reserve(tx, payment(which), now=NOW, binding=b"another")
            )
        except PaymentRefusedError:
            assert which in self.working | self.sent.keys() or which in self.moved
            return
        assert which not in self.working | self.sent.keys()
        assert which not in self.moved
        self.do(lambda tx: self.book.give_up(tx, reservation))

    @precondition(lambda self: self.working)
    @rule(outcome=st.sampled_from(["fails", "moves", "refused", "unknown", "unknown moved"]))
    def finish(self, outcome: str) -> None:
        which, reservation = self.working.popitem()
        if outcome == "fails":
            pending = self.do(lambda tx: self.book.abandon(tx, reservation))
            assert pending == (which in self.moved)
            return
        if reservation.paid_in:  # nothing is sent for it
            self.do(lambda tx: self.book.settled(tx, reservation, reservation.paid_in))
            self.answered.add(which)
            return
        self.do(lambda tx: self.book.settling(tx, reservation))
        if outcome == "refused":
            self.do(lambda tx: self.book.release(tx, reservation))
            return
        if outcome.endswith(("moves", "moved")):
            assert which not in self.moved, "moved twice"
            self.moved.add(which)
        if outcome == "moves":
            self.answered.add(which)
            self.do(lambda tx: self.book.settled(tx, reservation, b"\1" * 32))
        else:
            self.sent[which] = reservation
            self.do(lambda tx: self.book.unknown(tx, reservation, None))

    @precondition(lambda self: self.working)
    @rule(moves=st.booleans())
    def crash_while_sending(self, moves: bool) -> None:
        which, reservation = self.working.popitem()
        if reservation.paid_in:
            self.crash()
            return
        self.do(lambda tx: self.book.settling(tx, reservation))
        if moves:
            assert which not in self.moved, "moved twice"
            self.moved.add(which)
        self.sent[which] = reservation
        self.crash()

    @rule()
    def crash(self) -> None:
        instance = self.database.instance
        self.database.close()
        self.open()
        self.do(lambda tx: self.book.recover(tx, instance))
        found = self.database.read(self.book.unsettled)
        assert {u.reservation.id for u in found} == {r.id for r in self.sent.values()}
        self.working = {}

    @rule()
    def ask_the_chain(self) -> None:
        for unsettled in self.database.read(self.book.unsettled):
            which = bytes.fromhex(unsettled.reservation.nonce[2:])[0]
            used_by = b"\1" * 32 if which in self.moved else b""
            self.do(lambda tx, u=unsettled, by=used_by: self.book.conclude(tx, u, by))
            del self.sent[which]

    @invariant()
    def what_may_have_moved_is_remembered(self) -> None:
        found = {u.reservation.id for u in self.database.read(self.book.unsettled)}
        assert found == {r.id for r in self.sent.values()}


TestAuthorizationMachine = AuthorizationMachine.TestCase
TestAuthorizationMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
