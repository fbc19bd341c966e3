"""Challenges on a real chain: an honest node answers in time, one that rewrote its log cannot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from inference.answering import Answering
from inference.audit.accusation import Accused, head_of
from inference.audit.checkpoint import Checkpoint, sign
from inference.audit.evidence import Evidence, Head, Silence
from inference.audit.node_registry import NodeRegistry
from inference.errors import SettlementError
from registry.chain.dev_usd import ONE, mint
from registry.chain.fees import GWEI, FeePolicy
from registry.signing.signer import Signer
from tests.inference.payments.shop import FUNDER
from tests.inference.settlement.stall import Stall

OWNER = Signer.anvil(5, chain_id=31337)
REPORTER = Signer.anvil(6, chain_id=31337)
BOND = 100 * ONE


@dataclass
class Case:
    """A stall with a bond, and an auditor that has heads of its log."""

    stall: Stall
    registry: NodeRegistry
    answering: Answering
    token: str

    def restart(self, **changes: Any) -> None:
        self.stall.restart(**changes)
        self.answering = Answering(_with_bonds(self.stall), self._near())

    def _near(self) -> NodeRegistry:
        return NodeRegistry(self.stall.chain, self.registry.address)

    def head(self) -> Head:
        return head_of(self.answering.settlement.checkpoint())

    def grow(self, entries: int = 3) -> Head:
        for number in range(entries):
            self.answering.settlement.report("something", f"{number}", "happened")
        return self.head()

    def question(self, earlier: Head, later: Head) -> Evidence:
        accused = Accused(31337, self.anchor, FUNDER.address, self.stall.shop.log.origin)
        found = accused.heads(earlier, later)
        assert isinstance(found, Silence)
        found.check()
        return found

    def ask(self, earlier: Head, later: Head) -> bytes:
        rules = self.registry.rules()
        self.registry.allow(REPORTER, rules.token, rules.stake)
        self.registry.report(REPORTER, self.question(earlier, later))
        return self.registry.asked(FUNDER.address, from_block=0)[-1].id

    def forged(self, size: int) -> Head:
        """A head that the node signed of a log that it does not keep."""
        domain = self.answering.settlement.anchors.domain
        origin = self.stall.shop.log.origin
        return head_of(sign(Checkpoint(origin, size, b"\x66" * 32), FUNDER, domain))

    @property
    def anchor(self) -> str:
        return self.stall.deployment.audit_anchor

    def waits(self, id: bytes) -> bool:
        found = self.registry.challenge(id)
        assert found is not None
        return found.waits

    def held(self, owner: Signer) -> int:
        return self.registry.balance(self.token, owner.address)

    def bond(self) -> int:
        found = self.registry.bond(FUNDER.address)
        assert found is not None
        return found.amount


def _with_bonds(stall: Stall) -> Any:
    address = stall.deployment.node_registry
    assert address is not None
    return replace(stall.settlement, bonds=NodeRegistry(stall.chain, address))


@pytest.fixture
def case(stall: Stall) -> Case:
    chain, deployment = stall.devnet.chain, stall.deployment
    assert deployment.node_registry is not None
    assert deployment.dev_usd is not None
    registry = NodeRegistry(chain, deployment.node_registry)
    for holder in (OWNER, REPORTER):
        mint(chain, FUNDER, deployment.dev_usd, holder.address, 2 * BOND)
    registry.register(OWNER, FUNDER, "https://node.example", BOND, token=deployment.dev_usd)
    settlement = _with_bonds(stall)
    near = NodeRegistry(stall.chain, deployment.node_registry)
    settlement.start("weightproof 0")
    return Case(stall, registry, Answering(settlement, near), deployment.dev_usd)


def test_a_node_that_rewrote_its_log_cannot_answer_says_so_and_loses_its_bond(case: Case) -> None:
    earlier, later = case.forged(1), case.grow()
    id = case.ask(earlier, later)
    for _ in range(2):
        with pytest.raises(SettlementError, match="other heads of these sizes"):
            case.answering.answer()
    told = [i for i in case.stall.incidents() if i[0] == "challenge unanswerable"]
    assert [subject for _, subject, _ in told] == [f"0x{id.hex()}"]
    before = case.held(REPORTER)
    case.stall.devnet.pass_time(case.registry.rules().answer_window_s + 1)
    slashed = case.registry.slashed_in(case.registry.end_silence(REPORTER, id))
    assert slashed is not None
    assert slashed.share == BOND // 4
    assert case.held(REPORTER) == before + slashed.share + case.registry.rules().stake
    assert case.bond() == 0
    assert case.answering.answer() == 0  # nothing is left to defend


def test_a_node_whose_database_is_older_than_what_it_signed_cannot_answer(case: Case) -> None:
    earlier = case.grow()
    case.ask(earlier, case.forged(earlier.size + 100))
    with pytest.raises(SettlementError, match="cannot be shown"):
        case.answering.answer()
    assert case.bond() == BOND


def test_nothing_is_done_where_nothing_is_asked(case: Case) -> None:
    before = case.stall.devnet.chain.head().number
    assert case.answering.answer() == 0
    assert case.stall.devnet.chain.head().number == before


def test_an_honest_node_answers_gets_the_stake_and_tells_its_log(case: Case) -> None:
    heads = [case.grow(count) for count in (1, 4, 9)]
    ids = [case.ask(heads[0], heads[1]), case.ask(heads[0], heads[2]), case.ask(*heads[1:])]
    before = case.held(OWNER)
    assert case.answering.answer() == 3
    assert not any(case.waits(id) for id in ids)
    assert case.held(OWNER) == before + 3 * case.registry.rules().stake
    told = [subject for what, subject, _ in case.stall.incidents() if what == "challenge answered"]
    assert sorted(told) == sorted(f"0x{id.hex()}" for id in ids)
    assert case.answering.answer() == 0
    assert case.bond() == BOND


def test_a_challenge_from_before_the_node_began_is_found(case: Case) -> None:
    earlier, later = case.grow(), case.grow()
    id = case.ask(earlier, later)
    case.restart()
    assert case.answering.answer() == 1
    assert not case.waits(id)


def test_a_challenge_that_a_look_passed_over_is_found(case: Case) -> None:
    """As when the block it stood in was reorganised behind the look."""
    earlier, later = case.grow(), case.grow()
    assert case.answering.answer() == 0
    id = case.ask(earlier, later)
    case.stall.devnet.mine(5)
    case.answering._since = case.stall.devnet.chain.head().number
    assert case.answering.answer() == 1
    assert not case.waits(id)


def test_what_somebody_else_answered_is_no_failure(case: Case) -> None:
    earlier, later = case.grow(), case.grow()
    case.ask(earlier, later)
    log = case.stall.shop.log
    proof = case.stall.database.read(lambda tx: log.consistency_proof(tx, earlier.size, later.size))
    heads = (earlier.size, earlier.root), (later.size, later.root)
    (asked,) = case.answering._waiting(1)
    case.registry.answer(REPORTER, FUNDER.address, *heads, proof)
    assert not case.answering._answer(asked)
    assert case.answering.answer() == 0


def test_an_answer_that_is_not_mined_is_raised_and_sent_once(case: Case) -> None:
    """Fees rise while it waits; meanwhile no second answer is sent."""
    earlier, later = case.grow(), case.grow()
    id = case.ask(earlier, later)
    devnet = case.stall.devnet
    case.restart(wait_s=0.5, fees=FeePolicy(replace_after_s=0))
    devnet.chain.rpc("evm_setAutomine", False)
    with pytest.raises(Exception, match="not known yet"):
        case.answering.answer()
    with pytest.raises(SettlementError, match=r"answer 0x.* waits to be mined"):
        case.answering.answer()
    line = case.stall.shop.sent.line(FUNDER.address)
    assert {sent.doing for sent in line} == {"answer"}
    assert len({sent.nonce for sent in line}) == 1
    assert line[-1].fees.most > line[0].fees.most
    devnet.mine()
    devnet.chain.rpc("evm_setAutomine", True)
    assert case.answering.answer() == 0  # the round after it tells the log
    case.answering.settlement.catch_up()
    assert not case.waits(id)
    told = [subject for what, subject, _ in case.stall.incidents() if what == "challenge answered"]
    assert told == [f"0x{id.hex()}"]


def test_a_node_that_was_killed_after_sending_tells_its_log_when_it_is_back(case: Case) -> None:
    earlier, later = case.grow(), case.grow()
    id = case.ask(earlier, later)
    case.restart(wait_s=0.2)
    case.stall.devnet.chain.rpc("evm_setAutomine", False)
    with pytest.raises(Exception, match="not known yet"):
        case.answering.answer()
    case.stall.devnet.mine()
    case.stall.devnet.chain.rpc("evm_setAutomine", True)
    case.restart(wait_s=30.0)
    case.answering.settlement.catch_up()
    assert not case.waits(id)
    told = [subject for what, subject, _ in case.stall.incidents() if what == "challenge answered"]
    assert told == [f"0x{id.hex()}"]


def test_rounds_answer_and_tell_what_cannot_be_answered(case: Case) -> None:
    earlier, later = case.grow(), case.grow()
    id = case.ask(earlier, later)
    rounds = case.stall.rounds(lambda: 0.0)
    rounds.answer = case.answering.answer
    rounds.go()
    assert not case.waits(id)
    assert rounds.error == ""
    case.ask(case.forged(2), later)
    rounds.go()
    assert "answer fails" in rounds.error
    assert "cannot be shown" in rounds.error


def test_the_stake_pays_for_the_gas_of_its_answer(case: Case) -> None:
    """So that asking costs more than answering: at ten gwei, with ether at 2,500 dollars."""
    earlier, later = case.grow(3), case.grow(200)
    case.ask(earlier, later)
    assert case.answering.answer() == 1
    events = case.stall.devnet.chain.events(
        "NodeRegistry", case.registry.address, "Answered", from_block=0
    )
    receipt = case.stall.devnet.chain.receipt(events[-1].tx_hash)
    assert receipt is not None
    dollars = receipt.gas_used * 10 * GWEI * 2_500 / 10**18
    assert dollars * ONE < case.registry.rules().stake
