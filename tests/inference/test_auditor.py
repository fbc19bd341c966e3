"""A node that lies to an auditor is caught, with evidence; an honest one is not accused.

The chain is real, the log is real and read over HTTP; each test changes what one node writes or
shows. Lies about money are in test_auditor_money.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Response
from fastapi.testclient import TestClient

from inference.audit.bodies import AnchorBody, IncidentBody, entry_of
from inference.audit.checkpoint import Checkpoint, parse, sign, with_lines
from inference.audit.entry import Entry
from inference.audit.merkle import verify_consistency
from inference.audit.model_standing import Terms
from inference.audit.note import NoteKey
from inference.audit.note_key import note_key
from inference.audit.reader import KeyedLogIdentity, LogReader
from inference.audit.replay import Disclosure, Made, Prepared, Weighed, replay, shown_in
from inference.audit.report import CheckResult, Report
from inference.audit.report_page import page
from inference.auditor import Questions, audit
from inference.errors import AuditError, RequestError, UnavailableError
from inference.finding_files import write_findings
from inference.receipt_format import BlockFacts, Receipt, RuntimeFacts
from inference.receipts import SignedReceipt, issue, receipt_domain
from inference.replay_check import MAX_FINDINGS
from registry.chain.attestations import AttestationBook
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.signing.ed25519 import Ed25519Key
from tests.inference.audited_node import ATTESTER, FUNDER, ORIGIN, AuditedNode, Model, World
from tests.inference.receipt_samples import OUTPUT_IDS, PROMPT_IDS, REQUEST, SALTS, STRANGER


@pytest.fixture(scope="module")
def world(chain: Chain, deployment: Deployment) -> World:
    return World(chain, deployment)


@pytest.fixture(scope="module")
def model(world: World) -> Model:
    return world.register(secrets.token_bytes(32))


@pytest.fixture
def node(world: World, model: Model, tmp_path: Path) -> AuditedNode:
    node = AuditedNode.open(world, model, tmp_path)
    for _ in range(3):
        node.sell()
    return node


def twin(node: AuditedNode, folder: Path) -> AuditedNode:
    """The same key keeps a second log under the same name, with receipts of other ids."""
    other = AuditedNode.open(node.world, node.model, folder, node.key)
    other.count = 100
    return other


def finding(report: Report, number: int) -> CheckResult:
    """Return the one check that failed, having made sure it is the only one and has evidence."""
    assert [check.number for check in report.failed] == [number], report.to_json()
    assert not report.ok
    [check] = report.failed
    assert check.evidence
    json.dumps(report.to_json())
    return check


# 1: checkpoint signature


def test_a_checkpoint_by_another_key_is_caught_and_nothing_rests_on_it(node: AuditedNode) -> None:
    forged = sign(node.checkpoint().checkpoint, STRANGER, node.world.anchors.domain).note
    node.show["checkpoint"] = lambda _: forged
    report = node.audit()
    assert finding(report, 1).evidence == {"checkpoint": forged}
    assert not any(check.ran for check in report.checks[1:])


def test_a_checkpoint_of_another_log_is_caught(node: AuditedNode) -> None:
    report = node.audit(origin="example.org/other")
    assert "not of 'example.org/other'" in finding(report, 1).detail


@pytest.mark.parametrize("note", ["", "no note", "a\n1\nAAAA\n\n— a AAAA\n", "\x00" * 99])
def test_a_checkpoint_that_is_none_is_caught(node: AuditedNode, note: str) -> None:
    node.show["checkpoint"] = lambda _: note
    assert finding(node.audit(), 1).evidence == {"checkpoint": note}


# 2: consistency


def test_a_log_that_was_rewritten_after_it_was_anchored_is_caught(
    node: AuditedNode, tmp_path: Path
) -> None:
    node.anchor()
    other = twin(node, tmp_path)
    for _ in range(7):
        other.sell()
    check = finding(other.audit(), 2)
    assert "does not begin with that of 3" in check.detail
    anchored: Any = check.evidence["anchored"]
    assert anchored["size"] == 3
    assert check.evidence["checkpoint"] == other.checkpoint().note
    assert check.evidence["proof"]


def test_a_log_that_shrank_is_caught(node: AuditedNode, tmp_path: Path) -> None:
    node.anchor()
    other = twin(node, tmp_path)
    other.sell()
    check = finding(other.audit(), 2)
    assert check.detail == "the log shrank: 3 entries were signed before, now 1"
    assert check.evidence["anchored"]


def test_a_log_forked_for_two_payers_is_caught_when_they_compare(
    node: AuditedNode, tmp_path: Path
) -> None:
    other = twin(node, tmp_path)
    for _ in range(3):
        other.sell()
    seen = node.checkpoint().note
    check = finding(other.audit(Questions(known=[seen])), 2)
    assert "two roots of size 3" in check.detail
    # The evidence stands alone: two notes by one key, one size, two roots.
    assert check.evidence["known"] == seen
    assert check.evidence["checkpoint"] == other.checkpoint().note


def test_a_proof_that_is_withheld_or_made_up_is_caught(node: AuditedNode) -> None:
    node.anchor()
    node.sell()
    for lie in ({"proof": []}, {"proof": ["0x" + "00" * 32]}, {"proof": ["zz"]}, {}, [], "no"):
        node.show["consistency"] = lambda _, lie=lie: lie
        assert finding(node.audit(), 2).evidence["anchored"]


def test_a_note_that_is_not_this_nodes_accuses_nobody(node: AuditedNode) -> None:
    foreign = sign(Checkpoint(node.origin, 9, bytes(32)), STRANGER, node.world.anchors.domain)
    report = node.audit(Questions(known=[foreign.note]))
    assert report.ok
    assert "one known checkpoint was left out" in report.checks[1].detail


def other_line(note: str, key: NoteKey | None) -> str:
    """Return a note with another Ed25519 line, or without one."""
    head, lines = parse(note)
    more = [] if key is None else [key.line(head.text())]
    return "\n".join([head.text(), lines[0], *more]) + "\n"


ORPHAN = NoteKey(ORIGIN, Ed25519Key(b"\x07" * 32))


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (lambda note: other_line(note, None), f"carries no signature by {ORIGIN}"),
        (lambda note: other_line(note, ORPHAN), f"carries no signature by {ORIGIN}"),
        (lambda note: other_line(note, NoteKey("w", ORPHAN.key)), "carries no signature by"),
    ],
    ids=["missing", "another key's", "another name's"],
)
def test_a_head_that_public_tools_cannot_read_is_caught(
    node: AuditedNode, lie: Callable[[str], str], reason: str
) -> None:
    node.anchor()
    node.show["checkpoint"] = lie
    check = finding(node.audit(), 2)
    assert reason in check.detail
    shown: Any = check.evidence
    assert shown["checkpoint"] == lie(node.checkpoint().note)
    stated = KeyedLogIdentity.from_json(shown["log"])
    assert stated.note_key(node.key.address, node.world.anchors.domain).name == ORIGIN


def test_a_line_by_the_stated_key_about_another_head_is_caught(node: AuditedNode) -> None:
    """What public tools would take for the log is no head that the Ethereum key signed."""
    key, head = note_key(node.key, ORIGIN), node.checkpoint().checkpoint
    forked = key.line(replace(head, root=bytes(32)).text())
    node.show["checkpoint"] = lambda note: "\n".join([*note.split("\n")[:5], forked, ""])
    check = finding(node.audit(), 2)
    assert f"the signature line of {ORIGIN}" in check.detail


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({"vkey": ORPHAN.verifier.text}, "states the key"),
        ({"vkey": NoteKey("other", ORPHAN.key).verifier.text}, "is not the key of the log"),
        ({"vkey": "rubbish"}, "is not a verifier key"),
        ({"vkeySignature": "0x" + "00" * 65}, "the statement about"),
    ],
    ids=["not signed for", "of another log", "no key", "no signature"],
)
def test_a_key_for_public_tools_that_the_node_did_not_sign_for_is_caught(
    node: AuditedNode, lie: dict[str, str], reason: str
) -> None:
    node.show["identity"] = lambda honest: honest | lie
    check = finding(node.audit(), 2)
    assert reason in check.detail
    shown: Any = check.evidence
    assert shown["log"].items() >= lie.items()


def old_identity(honest: dict[str, Any]) -> dict[str, Any]:
    kept = {name: honest[name] for name in honest if not name.startswith("vkey")}
    return kept | {"format": "weightproof/log@1"}


def test_a_node_that_states_no_key_may_not_sign_for_public_tools_either(node: AuditedNode) -> None:
    node.show["identity"] = old_identity
    assert "by a key that it does not state" in finding(node.audit(), 2).detail
    node.show["checkpoint"] = lambda note: other_line(note, None)
    report = node.audit()
    assert report.ok
    assert "states no key for public tools" in report.checks[1].detail


def test_what_is_no_identity_is_caught_with_the_answer(node: AuditedNode) -> None:
    node.show["identity"] = lambda honest: honest | {"node": "me"}
    assert "me" in str(finding(node.audit(), 2).evidence["answer"])


def test_lines_of_others_and_of_kinds_unknown_are_let_pass(node: AuditedNode) -> None:
    node.show["checkpoint"] = lambda note: with_lines(note, [NoteKey("w", ORPHAN.key).line("x")])
    report = node.audit()
    assert report.ok
    assert "public tools read the same head" in report.checks[1].detail


# 3: root from entries


def test_an_entry_shown_otherwise_than_it_was_signed_is_caught(node: AuditedNode) -> None:
    honest = node.checkpoint().checkpoint

    def lie(texts: list[str], start: int) -> list[str]:
        body = IncidentBody("test", "", "instead of a receipt", 0)
        return [*texts[:1], entry_of(1, body).encode().decode(), *texts[2:]]

    node.show["entries"] = lie
    report = node.audit()
    assert report.failed[0].number == 3
    assert f"not the signed {honest.root.hex()}" in report.failed[0].detail
    assert len(report.failed[0].evidence["leaves"]) == 3  # type: ignore[arg-type]  # a list


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (lambda t: t[1:], "entry 1 stands at 0"),
        (lambda t: [t[1], t[0], t[2]], "entry 1 stands at 0"),
        (lambda t: [t[0].replace(":", ": ", 1), *t[1:]], "not canonical"),
        (lambda t: ["", *t[1:]], "not JSON"),
        (lambda t: [t[0].replace("entry@1", "entry@9"), *t[1:]], "entry@9"),
        (lambda t: [t[0].replace('"receipt","seq"', '"gossip","seq"'), *t[1:]], "gossip"),
        (lambda t: [t[0].replace('"receipt","seq"', '"start","seq"'), *t[1:]], "missing"),
        (lambda t: [], "0 entries for 3"),
        (lambda t: [*t, *t], "6 entries for 3"),
        (lambda t: [1, 2, 3], "not a list of texts"),
        (lambda t: None, "not a list of texts"),
    ],
)
def test_entries_that_are_not_the_log_are_caught(node: AuditedNode, lie: Any, reason: str) -> None:
    node.show["entries"] = lambda texts, start: lie(texts)
    report = node.audit()
    check = finding(report, 3)
    assert reason in check.detail
    assert [c.number for c in report.checks if not c.ran] == [4, 5, 6, 7, 8]


def test_text_that_has_no_bytes_is_caught(node: AuditedNode) -> None:
    node.show["page"] = lambda _: Response(r'{"entries":["\ud800","",""]}')
    assert finding(node.audit(), 3).evidence == {"seq": 0, "entry": "?"}


def test_an_anchor_in_the_log_that_is_not_on_chain_is_caught(node: AuditedNode) -> None:
    head = node.anchor().checkpoint
    [event] = node.world.view().anchored(node.key.address, node.origin)
    told = AnchorBody(head.size, head.root, event.tx_hash, event.block, 1)
    node.write(entry_of(3, told))
    assert node.audit().ok
    node.write(entry_of(4, replace(told, transaction=b"\x13" * 32)))
    check = finding(node.audit(), 3)
    assert "entry 4 tells of an anchored head of 3 that never was" in check.detail


# 4: receipts


def write_receipt(node: AuditedNode, signed: SignedReceipt, **changes: Any) -> None:
    """Put a receipt into the log as it is, wherever it belongs."""
    seq = node.database.read(node.log.size)
    node.write(Entry(seq, "receipt", signed.public() | changes))


def test_a_receipt_altered_in_the_log_is_caught(node: AuditedNode) -> None:
    at = node.database.read(node.log.next_position)
    domain = receipt_domain(31337, node.world.deployment.audit_anchor)
    signed = issue(node.key, domain, node.facts(), seq=at.seq, prev=at.prev)
    cheaper = replace(signed.receipt, served_at=signed.receipt.served_at - 1)
    write_receipt(node, replace(signed, receipt=cheaper))
    node.owed[signed.receipt.payment.channel] += signed.receipt.payment.charged
    check = finding(node.audit(), 4)
    assert "was changed, or signed by" in check.detail
    assert check.evidence["receipt"]


def test_a_receipt_by_a_forged_key_is_caught(node: AuditedNode) -> None:
    node.sell(key=STRANGER)
    assert f"is by node {STRANGER.address}" in finding(node.audit(), 4).detail


def test_a_receipt_entered_twice_is_caught(node: AuditedNode) -> None:
    first = node.sell()
    write_receipt(node, first)
    report = node.audit()
    assert report.failed[0].number == 4
    assert "the receipt for 3 stands at 4" in report.failed[0].detail


def test_two_receipts_under_one_id_are_caught(node: AuditedNode) -> None:
    node.sell(replace(node.facts(), id="rcpt_0000000000000001"))
    check = finding(node.audit(), 4)
    assert "two receipts have the id" in check.detail
    assert check.evidence["before"]


def test_one_call_under_two_names_is_caught(node: AuditedNode) -> None:
    first = node.sell()
    second = node.sell(replace(node.facts(), request=first.receipt.request))
    check = finding(node.audit(), 4)
    assert f"{second.receipt.id} is about a call that another one is about" in check.detail
    assert check.evidence == {"receipt": second.public(), "before": first.public()}


def test_a_reordered_log_is_caught(node: AuditedNode) -> None:
    at = node.database.read(node.log.next_position)
    domain = receipt_domain(31337, node.world.deployment.audit_anchor)
    signed = issue(node.key, domain, node.facts(), seq=at.seq, prev=bytes(32))
    node.write(signed.entry())
    node.owed[signed.receipt.payment.channel] += signed.receipt.payment.charged
    check = finding(node.audit(), 4)
    assert "signed after another entry than stands before it" in check.detail


def test_a_log_that_gives_salts_away_is_caught(node: AuditedNode) -> None:
    signed = issue(
        node.key,
        receipt_domain(31337, node.world.deployment.audit_anchor),
        node.facts(),
        seq=3,
        prev=node.database.read(node.log.next_position).prev,
    )
    write_receipt(node, signed, salts=SALTS.to_json())
    assert "salts: they belong to the payer" in finding(node.audit(), 4).detail


def test_a_receipt_without_its_form_is_caught_and_no_sums_are_made(node: AuditedNode) -> None:
    node.write(Entry(3, "receipt", {"receipt": {}, "signature": "0x"}))
    report = node.audit()
    assert "entry 3: receipt: " in finding(report, 4).detail
    assert [check.number for check in report.checks if not check.ran] == [5, 6, 7, 8]


# 6: models


def sells(node: AuditedNode, **model: Any) -> CheckResult:
    facts = node.facts()
    node.sell(replace(facts, model=replace(facts.model, **model)))
    return finding(node.audit(), 6)


def test_a_block_that_never_was_is_caught(node: AuditedNode) -> None:
    block = BlockFacts(node.model.block.number, b"\x13" * 32)
    assert "not what the receipt says" in sells(node, block=block).detail


@pytest.mark.parametrize("number", [10**9, 2**53 - 1])
def test_a_block_that_is_yet_to_come_is_caught(node: AuditedNode, number: int) -> None:
    check = sells(node, block=BlockFacts(number, b"\x13" * 32))
    assert f"the chain has no block {number}" in check.detail


def test_a_model_nobody_registered_is_caught(node: AuditedNode) -> None:
    check = sells(node, model_id=b"\x01" * 32)
    assert "no model had this id" in check.detail
    assert check.evidence["receipt"]


@pytest.mark.parametrize("other", [{"registry": STRANGER.address}, {"chain": 1}])
def test_a_model_of_another_registry_or_chain_is_caught(
    node: AuditedNode, other: dict[str, Any]
) -> None:
    assert "its model is of registry" in sells(node, **other).detail


def test_another_manifest_than_the_chain_records_is_caught(node: AuditedNode) -> None:
    check = sells(node, manifest_digest=b"\x13" * 32)
    assert f"records manifest 0x{node.model.manifest_digest.hex()}" in check.detail


def test_a_model_that_was_revoked_at_its_block_is_caught(world: World, node: AuditedNode) -> None:
    model = world.register(secrets.token_bytes(32))
    world.records.revoke(FUNDER, model.model_id, "unsafe")
    node.model = replace(model, block=world.chain.head())
    node.sell()
    assert "was revoked already at block" in finding(node.audit(), 6).detail


def test_a_model_still_sold_after_its_revocation_is_caught(world: World, node: AuditedNode) -> None:
    """The node cites an old block at which the model was still active."""
    node.model = world.register(secrets.token_bytes(32))
    world.records.revoke(FUNDER, node.model.model_id, "unsafe")
    revoked_at = world.records.record(node.model.model_id).revoked_at
    node.sell(replace(node.facts(), served_at=revoked_at + 60))
    assert node.audit().ok
    node.sell(replace(node.facts(), served_at=revoked_at + 61))
    assert "sold 61 s after it was revoked" in finding(node.audit(), 6).detail


def test_a_model_nobody_attested_is_caught(world: World, node: AuditedNode) -> None:
    node.model = world.register(secrets.token_bytes(32), attest=False)
    node.sell()
    assert "0 attesters vouched for it" in finding(node.audit(), 6).detail
    assert node.audit(Questions(Terms(min_attestations=0))).ok


@pytest.mark.parametrize(
    "terms",
    [
        Terms(attesters=frozenset({STRANGER.address})),
        Terms(tags=frozenset({"safety"})),
        Terms(min_attestations=2),
    ],
)
def test_attestations_that_the_auditor_does_not_trust_do_not_count(
    node: AuditedNode, terms: Terms
) -> None:
    assert "attesters vouched" in finding(node.audit(Questions(terms)), 6).detail


def test_many_attestations_of_strangers_do_not_hide_the_auditors_own(
    world: World, node: AuditedNode
) -> None:
    node.model = world.register(secrets.token_bytes(32))
    until = world.chain.head().timestamp + 10**6
    for score in range(30):
        world.book.attest(FUNDER, node.model.model_id, "integrity", score, until)
    node.model = replace(node.model, block=world.chain.head())
    node.sell()
    reader = AttestationBook(world.chain, world.deployment.attestations, max_read=10)
    view = replace(world.view(), book=reader)
    trusting = Questions(Terms(attesters=frozenset({ATTESTER.address})))
    with TestClient(node.app(), base_url="http://node.test") as client:
        assert audit(node.target, LogReader(client), view, trusting).ok
    found = view.attestations(node.model.model_id, world.chain.head(), None)
    assert ATTESTER.address not in {attestation.attester for attestation in found}


def test_a_refusal_may_name_a_model_that_is_not_for_sale(node: AuditedNode) -> None:
    facts = node.facts(charged=0)
    nothing = replace(facts.model, model_id=bytes(32), manifest_digest=bytes(32))
    node.sell(replace(facts, status="refused", model=nothing))
    assert node.audit().ok


# 7: inclusion


def test_a_receipt_that_was_dropped_from_the_log_is_caught(
    node: AuditedNode, tmp_path: Path
) -> None:
    other = twin(node, tmp_path)
    for _ in range(4):
        given = other.sell()
    check = finding(node.audit(Questions(given=[given])), 7)
    assert "leaf 3 is not in a tree of 3" in check.detail
    assert check.evidence["receipt"] == given.public()


def test_a_receipt_whose_place_another_took_is_caught(node: AuditedNode, tmp_path: Path) -> None:
    other = twin(node, tmp_path)
    other.sell()
    given = other.sell()
    check = finding(node.audit(Questions(given=[given])), 7)
    # Two receipts by one key for one place: the fork is proved without the log.
    shown: Any = check.evidence["entry"]
    assert shown["receipt"]["seq"] == given.receipt.seq == 1
    assert shown != check.evidence["receipt"]


def test_a_receipt_by_somebody_else_is_not_held_against_the_log(node: AuditedNode) -> None:
    domain = receipt_domain(31337, node.world.deployment.audit_anchor)
    foreign = issue(STRANGER, domain, node.facts(), seq=0, prev=bytes(32))
    assert "is by node" in finding(node.audit(Questions(given=[foreign])), 7).detail


def test_an_inclusion_proof_that_is_withheld_is_caught(node: AuditedNode) -> None:
    given = node.sell()
    for lie in ({"proof": []}, {"proof": ["0x" + "00" * 32] * 500}, {}):
        node.show["inclusion"] = lambda _, lie=lie: lie
        assert finding(node.audit(Questions(given=[given])), 7)


# 8: replay


class Machine:
    """Weights under which the sampled calls give certain tokens."""

    def __init__(self, ids: tuple[int, ...]) -> None:
        self.ids = ids

    def weights(self, receipt: Receipt) -> bytes:
        return receipt.model.resident_digest

    def runtime(self, receipt: Receipt) -> RuntimeFacts:
        return receipt.runtime

    def prepare(self, receipt: Receipt, request: bytes) -> Prepared:
        return Prepared(PROMPT_IDS, receipt.sampling)

    def weigh(self, receipt: Receipt, prepared: Prepared, claimed: tuple[int, ...]) -> Weighed:
        lost = tuple(0.0 if a == b else 9.0 for a, b in zip(claimed, self.ids, strict=False))
        return Weighed(lost, "single")

    def generate(self, receipt: Receipt, prepared: Prepared, limit: int) -> Made:
        # Every choice was clear: none could be tipped.
        return Made(self.ids, (9.0,) * len(self.ids))


def disclosed(signed: SignedReceipt, request: bytes = REQUEST) -> dict[str, Disclosure]:
    assert signed.salts is not None
    return {signed.receipt.id: Disclosure(request, signed.salts.request, OUTPUT_IDS)}


def test_tokens_that_the_weights_do_not_give_are_caught(node: AuditedNode) -> None:
    asked = Questions(disclosures=disclosed(node.sell()), replayer=Machine((1, 2, 3)))
    check = finding(node.audit(asked), 8)
    assert "the answer is not the model's" in check.detail
    assert check.evidence["lost"] == ["9.0000", "9.0000"]


def test_a_call_that_is_not_in_the_log_is_caught(node: AuditedNode, tmp_path: Path) -> None:
    other = twin(node, tmp_path)
    for _ in range(4):
        hidden = other.sell()
    asked = Questions(disclosures=disclosed(hidden), replayer=Machine(OUTPUT_IDS))
    assert "no receipt rcpt_0000000000000104" in finding(node.audit(asked), 8).detail


class Sly(Machine):
    """Weights that give the claimed tokens for some calls only."""

    def __init__(self, honest: Collection[str]) -> None:
        super().__init__(OUTPUT_IDS)
        self.honest = honest

    def weigh(self, receipt: Receipt, prepared: Prepared, claimed: tuple[int, ...]) -> Weighed:
        self.ids = OUTPUT_IDS if receipt.id in self.honest else (1, 2, 3)
        return super().weigh(receipt, prepared, claimed)


def test_one_lie_does_not_hide_the_others(node: AuditedNode, tmp_path: Path) -> None:
    lies, honest = [node.sell(), node.sell()], node.sell()
    other = twin(node, tmp_path)
    for _ in range(9):
        hidden = other.sell()
    shown = [lies[0], honest, lies[1], hidden]
    calls = {name: one for signed in shown for name, one in disclosed(signed).items()}
    report = node.audit(Questions(disclosures=calls, replayer=Sly([honest.receipt.id])))
    check = finding(report, 8)
    assert "; 3 findings in all; 1 calls " in check.detail
    found = [check, *check.more]
    assert [one.evidence["receipt"] for one in found[1:]] == [lie.public() for lie in lies]
    assert found[0].evidence["ids"] == [hidden.receipt.id]
    for one in found[1:]:
        signed, disclosure = shown_in(one.evidence)
        with pytest.raises(AuditError):
            replay(signed, disclosure, Sly([]))
    told: Any = report.to_json()["checks"]
    assert [one["evidence"] for one in told[7]["more"]] == [one.evidence for one in check.more]
    assert "more" not in told[6]
    names = [path.name for path in write_findings(report, node.target, tmp_path / "found")]
    assert [lie.receipt.id in name for lie, name in zip(lies, names[1:], strict=True)] == [True] * 2
    assert page(report).count("is not the model") == 2


def test_of_many_lies_some_evidence_is_kept_and_all_are_counted(node: AuditedNode) -> None:
    calls: dict[str, Disclosure] = {}
    for _ in range(MAX_FINDINGS + 3):
        calls |= disclosed(node.sell())
    check = finding(node.audit(Questions(disclosures=calls, replayer=Sly([]))), 8)
    assert f"{len(calls)} findings in all; evidence of {MAX_FINDINGS} is kept" in check.detail
    assert len(check.more) == MAX_FINDINGS - 1


def test_a_disclosure_that_does_not_fit_accuses_nobody(node: AuditedNode) -> None:
    asked = Questions(disclosures=disclosed(node.sell(), b"{}"), replayer=Machine(OUTPUT_IDS))
    report = node.audit(asked)
    assert report.ok
    assert not report.checks[7].ran


class Nothing(Machine):
    def prepare(self, receipt: Receipt, request: bytes) -> Prepared:
        raise RequestError("messages is missing", param="messages")


def test_a_call_that_cannot_be_run_here_accuses_nobody(node: AuditedNode) -> None:
    asked = Questions(disclosures=disclosed(node.sell()), replayer=Nothing(OUTPUT_IDS))
    report = node.audit(asked)
    assert report.ok
    assert "cannot be replayed: messages is missing" in report.checks[7].detail


# nobody answers


def test_a_node_that_does_not_answer_is_no_finding(node: AuditedNode) -> None:
    with (
        httpx.Client(base_url="http://127.0.0.1:9", timeout=2) as client,
        pytest.raises(UnavailableError, match="does not answer: ConnectError"),
    ):
        audit(node.target, LogReader(client), node.world.view())


def test_an_answer_without_end_is_cut_off(node: AuditedNode) -> None:
    node.show["checkpoint"] = lambda _: "x" * (33 * 1024 * 1024)
    assert "more than" in finding(node.audit(), 1).detail


# the honest node


def test_an_honest_log_is_accepted_in_all_eight_checks(node: AuditedNode) -> None:
    node.anchor()
    last = node.sell()
    asked = Questions(
        terms=Terms(attesters=frozenset({ATTESTER.address}), tags=frozenset({"integrity"})),
        given=[last],
        known=[node.anchor().note, node.checkpoint().note],
        disclosures=disclosed(last),
        replayer=Machine(OUTPUT_IDS),
    )
    report = node.audit(asked)
    assert report.ok, report.to_json()
    assert all(check.ran for check in report.checks)
    told = "extends 2 anchored checkpoints, 2 known ones compared; public tools read the same head"
    assert report.checks[1].detail == told
    assert (report.size, report.root) == (4, "0x" + node.checkpoint().checkpoint.root.hex())
    assert json.loads(json.dumps(report.to_json()))["ok"] is True


def test_an_empty_log_is_accepted(world: World, model: Model, tmp_path: Path) -> None:
    report = AuditedNode.open(world, model, tmp_path).audit()
    assert report.ok
    assert report.size == 0


def test_the_evidence_of_a_rewritten_log_convinces_a_third_party(
    node: AuditedNode, tmp_path: Path
) -> None:
    """Nothing but the evidence and the node's address is used."""
    first = node.anchor()
    other = twin(node, tmp_path)
    for _ in range(5):
        other.sell()
    evidence: Any = finding(other.audit(), 2).evidence
    old = bytes.fromhex(evidence["anchored"]["root"][2:])
    assert old == first.checkpoint.root
    new = other.checkpoint().checkpoint
    proof = [bytes.fromhex(item[2:]) for item in evidence["proof"]]
    with pytest.raises(Exception, match="leads to old root"):
        verify_consistency(evidence["anchored"]["size"], new.size, old, new.root, proof)


def test_the_node_says_whose_log_it_keeps(node: AuditedNode) -> None:
    with TestClient(node.app()) as client:
        said = LogReader(client).identity()
    assert (said.node, said.origin, said.size) == (node.key.address, node.origin, 3)


def test_a_long_log_is_read_page_by_page(node: AuditedNode) -> None:
    node.show["entries"] = lambda texts, start: texts[:2]
    heard: list[tuple[int, int]] = []
    with TestClient(node.app()) as client:
        report = audit(
            node.target,
            LogReader(client),
            node.world.view(),
            progress=lambda done, total: heard.append((done, total)),
        )
    assert report.ok
    assert heard == [(3, 3)]
