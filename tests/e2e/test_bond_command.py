"""`weightproof bond` and `weightproof report` as their users have them, on a devnet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inference.audit import merkle
from inference.audit.checkpoint import Checkpoint, checkpoint_domain, sign
from inference.audit.evidence import Evidence
from inference.audit.node_registry import NodeRegistry
from inference.evidence_file import read_evidence, write_evidence
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.chain.dev_usd import ONE, balance
from registry.chain.devnet import Devnet
from registry.devnet_file import ROLES, prepare_devnet
from registry.errors import ConfigError
from registry.signing.signer import Signer
from tests.e2e.test_command_line import Ran, inside
from tests.inference.audit.evidence_samples import LIES, Liar

NODE = Signer.anvil(ROLES["node"], chain_id=31337)
FOURTEEN_DAYS = 14 * 86_400
BOND = 100 * ONE


@dataclass(frozen=True)
class Street:
    """A devnet, its settings file, and a node that may lie."""

    net: Devnet
    config: Path
    deployment: Deployment
    folder: Path

    def run(self, *arguments: object) -> Ran:
        return inside(*arguments, "--config", self.config, "--json")

    @property
    def liar(self) -> Liar:
        return Liar(key=NODE, anchor=self.deployment.audit_anchor)

    @property
    def registry(self) -> NodeRegistry:
        assert self.deployment.node_registry is not None
        return NodeRegistry(self.net.chain, self.deployment.node_registry)

    def write(self, evidence: Evidence) -> Path:
        path = self.folder / f"{evidence.lie}.json"
        write_evidence(path, evidence)
        return path

    def held(self, role: str) -> int:
        assert self.deployment.dev_usd is not None
        owner = Signer.anvil(ROLES[role], chain_id=31337).address
        return balance(self.net.chain, self.deployment.dev_usd, owner)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Devnet, Path, Deployment]]:
    folder = tmp_path_factory.mktemp("town")
    with Devnet.start() as net:
        config, deployment = prepare_devnet(Chain(net.rpc_url), folder, net.rpc_url)
        yield net, config, deployment


@pytest.fixture
def street(town: tuple[Devnet, Path, Deployment], tmp_path: Path) -> Iterator[Street]:
    net, config, deployment = town
    snapshot = net.snapshot()
    yield Street(net, config, deployment, tmp_path)
    net.revert(snapshot)


@pytest.mark.parametrize("amount", ["0", "-5", "much", "1.5", str(2**128)])
def test_an_amount_that_is_none_is_refused(street: Street, amount: str) -> None:
    assert street.run("bond", "deposit", amount).code == 2


@pytest.mark.parametrize(
    "url", ["", "node.example", "ftp://node.example", "http://a b", "http://" + 3000 * "a"]
)
def test_an_address_that_is_none_is_refused(street: Street, url: str) -> None:
    street.run("bond", "set-url", url).refuses(2, "address of a node")


def test_a_bond_that_its_owner_cannot_pay_is_refused(street: Street) -> None:
    street.run("bond", "deposit", 10**20).refuses(4, "holds 1000000000", "is needed")
    street.run("bond", "deposit", 1, "--key", "node").refuses(4, "holds 0")
    street.run("bond", "deposit", 1, "--key", "nobody").refuses(2, "nobody")


def test_what_needs_a_bond_is_refused_without_one(street: Street) -> None:
    street.run("bond", "withdraw", "--yes").refuses(4, "no bond stands")
    street.run("bond", "set-url", "https://node.example").refuses(4, "no bond stands")
    shown = street.run("bond", "status").json
    assert (shown["state"], shown["bond"]) == ("none", "0")


def test_a_chain_without_the_contract_is_told(street: Street) -> None:
    text = street.config.read_text()
    path = street.folder / "weightproof.toml"
    lines = [line for line in text.splitlines() if not line.startswith("node_registry")]
    path.write_text("\n".join(lines))
    inside("bond", "status", "--config", path).refuses(2, "no NodeRegistry")


def test_a_node_is_put_up_moves_raises_its_bond_and_leaves(street: Street) -> None:
    before = street.held("owner")
    made = street.run("bond", "deposit", BOND, "--url", "https://node.example").json
    assert (made["state"], made["bond"], made["url"]) == (
        "stands",
        str(BOND),
        "https://node.example",
    )
    assert made["node"] == NODE.address
    assert made["owner"] == Signer.anvil(ROLES["owner"], chain_id=31337).address
    assert made["unbonding"] == "14 days after the owner asks"
    assert street.run("bond", "deposit", ONE).json["bond"] == str(BOND + ONE)
    street.run("bond", "deposit", ONE, "--url", "https://x.example").refuses(2, "set-url")
    street.run("bond", "set-url", "https://x.example", "--key", "node").refuses(4, "does not own")
    assert street.run("bond", "set-url", "https://x.example").json["url"] == "https://x.example"
    assert street.held("owner") == before - BOND - ONE

    street.run("bond", "withdraw").refuses(2, "14 days", "--yes")
    left = street.run("bond", "withdraw", "--yes").json
    assert left["state"] == "leaving"
    assert "can be lost until 20" in left["says"]
    assert "13 days 23 hours" in left["says"] or "14 days" in left["says"]
    street.run("bond", "withdraw").refuses(4, "stands until 20")
    street.net.pass_time(FOURTEEN_DAYS)
    assert "any moment" in street.run("bond", "status").json["says"]
    gone = street.run("bond", "withdraw").json
    assert (gone["state"], gone["bond"]) == ("left", "0")
    assert street.held("owner") == before
    street.run("bond", "deposit", BOND).refuses(4, "left with its bond", "new key")


def test_a_file_that_is_no_evidence_is_refused_without_a_trace(street: Street) -> None:
    path = street.folder / "odd.json"
    good = street.liar.fork().encode()
    for data, why in (
        (b"", "not JSON"),
        (good + b"\n", "not canonical"),
        (good.replace(b"evidence@1", b"evidence@2"), "the one known here"),
        (b" " * 70_000, "more than"),
        (street.liar.honest()["fork"].encode(), "no fork"),
    ):
        path.write_bytes(data)
        inside("report", "check", path, "--json").refuses(3, why)
        street.run("report", "submit", path).refuses(3, why)
    assert inside("report", "check", street.folder / "none.json").code == 2


def test_evidence_is_never_written_over(street: Street) -> None:
    path = street.write(street.liar.fork())
    with pytest.raises(ConfigError, match="exists"):
        write_evidence(path, street.liar.fork())
    assert read_evidence(path) == street.liar.fork()


def note(street: Street, log: list[bytes], size: int, name: str) -> Path:
    domain = checkpoint_domain(31337, street.deployment.audit_anchor)
    checkpoint = Checkpoint("example.org/log", size, merkle.root(log[:size]))
    path = street.folder / name
    path.write_text(sign(checkpoint, NODE, domain).note)
    return path


def receipt(street: Street, seq: int, charged: int) -> Path:
    path = street.folder / f"{seq}-{charged}.receipt"
    path.write_text(json.dumps(street.liar.receipt(seq, charged).bundle(), indent=2))
    return path


def test_statements_that_show_nothing_make_no_evidence(street: Street) -> None:
    log, at = street.liar.leaves, ("--address", NODE.address)
    first, same = note(street, log, 8, "a.note"), note(street, log, 8, "b.note")
    odd = street.folder / "odd"
    out = ("--save", street.folder / "out.json")
    for files, why in (
        ((first, same), "no lie is shown"),
        ((first,), "1 notes and 0 receipts"),
        ((first, receipt(street, 4, 1)), "1 notes and 1 receipts"),
        ((receipt(street, 4, 1), receipt(street, 5, 1)), "no twins"),
        ((receipt(street, 4, 1), receipt(street, 4, 1)), "same receipt"),
    ):
        street.run("report", "make", *files, *at, *out).refuses(3, why)
    for data in (b"\xff", b"", b"{}", b"{" * 50_000, b"a\n\nb", b"x" * 200_000):
        odd.write_bytes(data)
        ran = street.run("report", "make", first, odd, *at, *out)
        assert ran.code in (3, 6)
        assert ran.err.startswith("weightproof: ")
    street.run("report", "make", first, same, "--address", "0x12", *out).refuses(2, "--address")
    payer = Signer.anvil(ROLES["payer"], chain_id=31337).address
    forked = note(street, street.liar.other, 8, "c.note")
    street.run("report", "make", first, forked, "--address", payer, *out).refuses(6, payer)
    assert not (street.folder / "out.json").exists()


def test_two_payers_who_compare_make_evidence_that_pays(street: Street) -> None:
    street.run("bond", "deposit", BOND)
    at, out = ("--address", NODE.address), street.folder / "out.json"
    first = note(street, street.liar.leaves, 8, "a.note")
    forked = note(street, street.liar.other, 8, "c.note")
    kept = street.folder / "witness.fork"
    kept.write_bytes(first.read_bytes() + b"\n" + forked.read_bytes())
    made = street.run("report", "make", kept, *at, "--save", out).json
    assert made["lie"] == "fork"
    again = street.folder / "again.json"
    assert street.run("report", "make", first, forked, *at, "--save", again).json["lie"] == "fork"
    assert again.read_bytes() == out.read_bytes()
    grown = note(street, street.liar.other, 11, "d.note")
    asked = street.folder / "asked.json"
    made = street.run("report", "make", first, grown, *at, "--save", asked).json
    assert made["lie"] == "silence"
    twins = street.folder / "twins.json"
    files = receipt(street, 4, 1), receipt(street, 4, 2)
    assert street.run("report", "make", *files, *at, "--save", twins).json["lie"] == "twins"
    assert b"salts" not in twins.read_bytes()
    assert street.run("report", "submit", twins).json["reward"] == str(BOND // 4)


@pytest.mark.parametrize("lie", LIES)
def test_evidence_is_checked_with_nothing_but_its_file(street: Street, lie: str) -> None:
    shown = inside("report", "check", street.write(street.liar.evidence(lie)), "--json").json
    assert (shown["lie"], shown["node"]) == (lie, NODE.address)
    assert ("proven" in shown["says"]) == (lie != "silence")


def test_a_report_that_can_win_nothing_is_not_sent(street: Street) -> None:
    path = street.write(street.liar.fork())
    street.run("report", "submit", path).refuses(4, "was never put up", "nothing to lose")
    elsewhere = Liar(key=NODE, anchor=street.deployment.attestations).twins()
    street.run("report", "submit", street.write(elsewhere)).refuses(2, "anchored at")
    other = Liar(key=NODE, anchor=street.deployment.audit_anchor, chain=10).drop()
    street.run("report", "submit", street.write(other)).refuses(2, "chain 10")


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie != "silence"])
def test_a_report_is_simulated_sent_and_rewarded_once(street: Street, lie: str) -> None:
    street.run("bond", "deposit", BOND)
    path, before = street.write(street.liar.evidence(lie)), street.held("payer")
    tried = street.run("report", "submit", path, "--simulate").json
    assert tried["reporter_gets"] == str(BOND // 4)
    assert street.held("payer") == before
    sent = street.run("report", "submit", path).json
    assert (sent["reward"], sent["burned"]) == (str(BOND // 4), str(BOND - BOND // 4))
    assert street.held("payer") == before + BOND // 4
    assert street.run("bond", "status").json["state"] == "slashed"
    street.run("report", "submit", path).refuses(4, "has no bond any more")
    street.run("bond", "deposit", BOND).refuses(4, "shown to lie", "new key")


def test_a_silent_node_is_asked_on_chain_and_loses_its_bond_after_three_days(
    street: Street,
) -> None:
    street.run("bond", "deposit", BOND)
    path, before = street.write(street.liar.silence()), street.held("payer")
    tried = street.run("report", "submit", path, "--simulate").json
    assert (tried["stake"], tried["reporter_gets"]) == (str(5 * ONE), str(BOND // 4))
    assert street.held("payer") == before
    asked = street.run("report", "submit", path).json
    assert street.held("payer") == before - 5 * ONE
    assert "submit this file again after 20" in asked["says"]
    street.run("bond", "withdraw", "--yes")
    street.run("report", "submit", path).refuses(4, "can be answered until 20", "again in")
    street.net.pass_time(3 * 86_400 + 1)
    ended = street.run("report", "submit", path).json
    assert ended["reward"] == str(BOND // 4)
    assert street.held("payer") == before + BOND // 4
    street.run("report", "submit", path).refuses(4, "is over")


def test_a_reporter_without_the_stake_is_told(street: Street) -> None:
    street.run("bond", "deposit", BOND)
    path = street.write(street.liar.silence())
    street.run("report", "submit", path, "--key", "attester").refuses(4, "holds 0", "5000000")


def test_people_are_told_what_they_get_before_anything_is_sent(street: Street) -> None:
    street.run("bond", "deposit", BOND)
    path = street.write(street.liar.fork())
    ran = inside("report", "submit", path, "--config", street.config)
    assert ran.code == 0
    assert "the contract agrees: 25000000 units to you, 75000000 burned" in ran.out


def test_an_honest_node_answers_by_hand_and_keeps_its_bond(street: Street) -> None:
    from inference.audit.accusation import Accused, head_of
    from inference.config import load
    from inference.office import Office

    street.run("bond", "deposit", BOND)
    office = Office.open(load(street.config))
    try:
        office.settlement.start("weightproof 0")
        heads = [head_of(office.settlement.checkpoint())]
        office.settlement.report("something", "here", "happened")
        heads.append(head_of(office.settlement.checkpoint()))
        accused = Accused(31337, street.deployment.audit_anchor, NODE.address, office.log.origin)
    finally:
        office.close()
    question = accused.heads(*heads)
    assert question is not None
    path = street.write(question)
    street.run("report", "submit", path)
    assert street.run("bond", "status").json["challenges"] == 1
    assert street.run("bond", "answer").json == {"answered": 1}
    assert street.run("bond", "answer").json == {"answered": 0}
    assert street.held("owner") == 1000 * ONE - BOND + 5 * ONE
    street.run("report", "submit", path).refuses(4, "is over")
    shown: dict[str, Any] = json.loads(inside("bond", "status", "--config", street.config,
                                              "--address", NODE.address, "--json").out)  # fmt: skip
    assert (shown["state"], shown["challenges"]) == ("stands", 0)
