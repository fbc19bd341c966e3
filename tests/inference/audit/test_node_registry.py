"""The NodeRegistry on a real chain: each lie costs the bond, and nothing else does."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from inference.audit.evidence import Silence
from inference.audit.node_refusals import WORDS, BondRefusedError, refusal
from inference.audit.node_registry import NodeRegistry, challenge_id
from registry.chain.artifact import load
from registry.chain.connection import Chain
from registry.chain.deploy import CHALLENGE_STAKE, Deployment
from registry.chain.dev_usd import ONE, mint
from registry.chain.devnet import Devnet
from registry.errors import TransactionFailedError
from registry.signing.signer import Signer
from tests.inference.audit.evidence_samples import LIES, Liar

BOND = 100 * ONE
URL = "https://node.example"
FUNDER = Signer.anvil(0, chain_id=31337)
OWNER = Signer.anvil(5, chain_id=31337)
REPORTER = Signer.anvil(6, chain_id=31337)
# Only a constructor raises these.
OF_CONSTRUCTORS = {"InvalidShortString", "StringTooLong"}


@dataclass
class World:
    devnet: Devnet
    registry: NodeRegistry
    token: str
    liar: Liar

    @property
    def node(self) -> str:
        return self.liar.key.address

    def bond(self) -> int:
        found = self.registry.bond(self.node)
        assert found is not None
        return found.amount

    def held(self, owner: Signer) -> int:
        return self.registry.balance(self.token, owner.address)

    def put_up(self) -> None:
        self.registry.register(OWNER, self.liar.key, URL, BOND, token=self.token)


@pytest.fixture
def world(restored: Devnet, deployment: Deployment) -> World:
    assert deployment.node_registry is not None
    assert deployment.dev_usd is not None
    for holder in (OWNER, REPORTER):
        mint(restored.chain, FUNDER, deployment.dev_usd, holder.address, 2 * BOND)
    liar = Liar(key=Signer.random(), anchor=deployment.audit_anchor)
    registry = NodeRegistry(restored.chain, deployment.node_registry)
    return World(restored, registry, deployment.dev_usd, liar)


def refused(error: TransactionFailedError) -> BondRefusedError:
    meaning = refusal(error)
    assert isinstance(meaning, BondRefusedError)
    assert meaning.message
    return meaning


@pytest.mark.parametrize("name", Liar().honest())
def test_what_an_honest_node_signed_costs_nothing(world: World, name: str) -> None:
    world.put_up()
    with pytest.raises(TransactionFailedError) as caught:
        world.registry.check_report(REPORTER, world.liar.honest()[name])
    assert refused(caught.value).error in {"SameStatement", "WrongSizes", "DifferentPlaces"}
    assert world.bond() == BOND


@pytest.mark.parametrize("lie", LIES)
def test_evidence_against_a_key_without_a_bond_is_refused_in_words(world: World, lie: str) -> None:
    with pytest.raises(TransactionFailedError) as caught:
        world.registry.check_report(REPORTER, world.liar.evidence(lie))
    assert refused(caught.value).error == "UnknownNode"
    assert "no bond stands" in refused(caught.value).message


@pytest.mark.parametrize("lie", LIES)
def test_a_statement_by_another_key_is_no_evidence_on_chain_either(world: World, lie: str) -> None:
    world.put_up()
    stranger = Liar(key=Signer.random(), anchor=world.liar.anchor)
    theirs, ours = stranger.evidence(lie), world.liar.evidence(lie)
    part = {"drop": "head", "silence": "earlier"}.get(lie, "first")
    mixed = replace(ours, **{part: getattr(theirs, part)})
    with pytest.raises(TransactionFailedError) as caught:
        world.registry.check_report(REPORTER, mixed)
    assert refused(caught.value).error == "TwoSigners"


def test_a_proof_of_the_wrong_size_is_refused_on_chain_too(world: World) -> None:
    world.put_up()
    drop = world.liar.drop()
    for path in (drop.found.path[:-1], (*drop.found.path, bytes(32))):
        with pytest.raises(TransactionFailedError) as caught:
            world.registry.check_report(
                REPORTER, replace(drop, found=replace(drop.found, path=path))
            )
        assert refused(caught.value).error == "WrongProof"


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie != "silence"])
def test_each_lie_costs_the_bond_and_pays_its_reporter(world: World, lie: str) -> None:
    world.put_up()
    before = world.held(REPORTER)
    receipt = world.registry.report(REPORTER, world.liar.evidence(lie))
    slashed = world.registry.slashed_in(receipt)
    assert slashed is not None
    share = world.registry.rules().reward(BOND)
    assert (slashed.node, slashed.reporter) == (world.node, REPORTER.address)
    assert (slashed.share, slashed.burned) == (share, BOND - share) == (25 * ONE, 75 * ONE)
    assert world.held(REPORTER) == before + share
    bond = world.registry.bond(world.node)
    assert bond is not None
    assert (bond.amount, bond.slashed_at > 0) == (0, True)
    with pytest.raises(TransactionFailedError) as caught:
        world.registry.check_report(REPORTER, world.liar.evidence(lie))
    assert refused(caught.value).error == "UnknownNode"


def test_a_question_is_asked_once_and_its_silence_ends_after_the_window(world: World) -> None:
    world.put_up()
    evidence, registry, rules = world.liar.silence(), world.registry, world.registry.rules()
    registry.allow(REPORTER, rules.token, rules.stake)
    before = world.held(REPORTER)
    registry.report(REPORTER, evidence)
    assert world.held(REPORTER) == before - CHALLENGE_STAKE
    (asked,) = registry.asked(world.node, from_block=0)
    assert asked.id == id_of(world.node, evidence)
    assert (asked.old, asked.new) == (evidence.earlier.size, evidence.later.size)
    with pytest.raises(TransactionFailedError) as caught:
        registry.check_report(REPORTER, evidence)
    assert refused(caught.value).error == "AlreadyChallenged"
    with pytest.raises(TransactionFailedError) as caught:
        registry.end_silence(REPORTER, asked.id)
    assert "can be answered until 20" in refused(caught.value).message
    world.devnet.pass_time(rules.answer_window_s + 1)
    slashed = registry.slashed_in(registry.end_silence(REPORTER, asked.id))
    assert slashed is not None
    assert world.held(REPORTER) == before + slashed.share
    challenge = registry.challenge(asked.id)
    assert challenge is not None
    assert not challenge.waits


def test_a_bond_stands_for_its_delay_and_then_comes_back(world: World) -> None:
    world.put_up()
    before = world.held(OWNER)
    world.registry.announce_leaving(OWNER, world.node)
    for wrong in (world.registry.withdraw, world.registry.announce_leaving):
        with pytest.raises(TransactionFailedError) as caught:
            wrong(OWNER, world.node)
        assert "UTC" in refused(caught.value).message
    world.devnet.pass_time(world.registry.rules().leaving_delay_s)
    world.registry.withdraw(OWNER, world.node)
    assert world.held(OWNER) == before + BOND
    with pytest.raises(TransactionFailedError) as caught:
        world.put_up()
    assert refused(caught.value).error == "AlreadyRegistered"


def test_nobody_but_the_owner_moves_a_node_or_asks_for_its_bond(world: World) -> None:
    world.put_up()
    with pytest.raises(TransactionFailedError) as caught:
        world.registry.announce_leaving(REPORTER, world.node)
    assert refused(caught.value).error == "NotTheOwner"
    world.registry.move(OWNER, world.node, "https://elsewhere.example")
    world.registry.raise_bond(REPORTER, world.node, ONE, token=world.token)
    bond = world.registry.bond(world.node)
    assert bond is not None
    assert (bond.url, bond.amount) == ("https://elsewhere.example", BOND + ONE)


def test_a_bond_that_the_owner_does_not_hold_is_refused_in_words(world: World) -> None:
    with pytest.raises(TransactionFailedError) as caught:
        world.registry.register(OWNER, world.liar.key, URL, 10**30, token=world.token)
    assert refused(caught.value).error == "ERC20InsufficientBalance"
    assert world.registry.bond(world.node) is None


def test_every_refusal_of_the_contract_has_words_for_all_its_values() -> None:
    errors = {item["name"]: item["inputs"] for item in load("NodeRegistry").abi if
              item["type"] == "error"}  # fmt: skip
    assert errors.keys() - OF_CONSTRUCTORS <= WORDS.keys()
    samples = {"address": OWNER.address, "bytes32": bytes(32)}
    for name in errors.keys() - OF_CONSTRUCTORS:
        values = tuple(samples.get(item["type"], 2**64 - 1) for item in errors[name])
        message, hint = WORDS[name](*values)
        assert message
        assert "\n" not in message + hint


def test_an_error_of_others_stays_what_it_is(chain: Chain) -> None:
    odd = TransactionFailedError("x reverted", reason="x", error="UnknownNode", values=())
    assert refusal(odd) is odd
    odd = TransactionFailedError("x reverted", reason="x", error="Surprise")
    assert refusal(odd) is odd


def id_of(node: str, evidence: Silence) -> bytes:
    old, new = evidence.earlier, evidence.later
    return challenge_id(node, old.size, old.root, new.size, new.root)
