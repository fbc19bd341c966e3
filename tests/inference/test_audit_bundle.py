"""A bundle repeats an audit without node and chain; one that was changed says nothing."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from inference.audit.bundle import BundleError, open_bundle
from inference.audit.reader import LogReader
from inference.audit.report import Report
from inference.audit_command import run_bundle, saved_audit
from inference.auditor import Questions
from inference.shown import Shown
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.signing.canonical import encode
from registry.terminal import Terminal
from tests.inference.audited_node import COST, AuditedNode, Model, World
from tests.inference.receipt_samples import CHANNEL, STRANGER

TERMINAL = Terminal(as_json=True)


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
    node.anchor()
    node.sell()
    node.claim(CHANNEL, COST)
    return node


def save(node: AuditedNode, path: Path) -> Report:
    with TestClient(node.app(), base_url="http://node.test") as client:
        log, view = LogReader(client), node.world.view()
        return saved_audit(node.target, log, view, Questions(), lambda done, total: None, path)


def details(report: Report) -> list[tuple[bool, bool, str]]:
    suffix = "; the chain's part is the bundle's word"
    return [(c.ran, c.ok, c.detail.removesuffix(suffix)) for c in report.checks]


def test_a_bundle_says_what_node_and_chain_said(node: AuditedNode, tmp_path: Path) -> None:
    path = tmp_path / "audit.bundle"
    told = save(node, path)
    assert told.ok
    again, target = run_bundle(path, TERMINAL, address=node.key.address)
    assert target == node.target
    assert again.ok
    assert details(again) == details(told)
    assert again.figures == told.figures
    assert again.source == "bundle"
    for check in again.checks:
        assert ("the bundle's word" in check.detail) == (check.number in (2, 5, 6))


def test_a_bundle_of_a_time_when_no_key_was_asked_for_says_so(
    node: AuditedNode, tmp_path: Path
) -> None:
    path = tmp_path / "audit.bundle"
    save(node, path)

    def change(lines: list[Any]) -> list[Any]:
        lines[-1]["answers"].pop("identity")
        return lines

    rewritten(path, change)
    again, _ = run_bundle(path, TERMINAL)
    assert again.ok
    assert "its note's key was not asked for" in again.checks[1].detail


def test_a_bundle_with_another_key_for_public_tools_is_caught(
    node: AuditedNode, tmp_path: Path
) -> None:
    path = tmp_path / "audit.bundle"
    save(node, path)

    def change(lines: list[Any]) -> list[Any]:
        lines[-1]["answers"]["identity"]["vkeySignature"] = "0x" + "00" * 65
        return lines

    rewritten(path, change)
    again, _ = run_bundle(path, TERMINAL)
    assert [check.number for check in again.failed] == [2]


def test_a_receipt_is_held_against_a_bundle(node: AuditedNode, tmp_path: Path) -> None:
    path = tmp_path / "audit.bundle"
    given = node.sell()
    assert save(node, path).ok
    report, _ = run_bundle(path, TERMINAL, shown=[Shown(given)])
    assert report.checks[6].ok
    foreign = replace(given, receipt=replace(given.receipt, seq=2))
    report, _ = run_bundle(path, TERMINAL, shown=[Shown(foreign)])
    assert [check.number for check in report.failed] == [7]


@pytest.mark.parametrize("lie", ["charge", "consistency", "block"])
def test_a_bundle_of_a_liar_accuses_it_again(node: AuditedNode, tmp_path: Path, lie: str) -> None:
    if lie == "charge":
        node.sell(node.facts(charged=COST + 1))
    elif lie == "consistency":
        node.show["consistency"] = lambda _: {"proof": 7}
    else:
        facts = node.facts()
        block = replace(facts.model.block, number=10**9)
        node.sell(replace(facts, model=replace(facts.model, block=block)))
    path = tmp_path / "audit.bundle"
    told = save(node, path)
    again, _ = run_bundle(path, TERMINAL)
    assert not told.ok
    assert details(again) == details(told)
    assert [check.number for check in again.failed] == [{"charge": 5, "consistency": 2}.get(lie, 6)]


def test_an_audit_that_does_not_end_leaves_no_bundle(node: AuditedNode, tmp_path: Path) -> None:
    with httpx.Client(base_url="http://127.0.0.1:1") as client, pytest.raises(Exception, match="d"):
        view = node.world.view()
        path = tmp_path / "x"
        saved_audit(node.target, LogReader(client), view, Questions(), lambda a, b: None, path)
    assert not list(tmp_path.glob("x*"))


def rewritten(path: Path, change: Callable[[list[Any]], list[Any]]) -> None:
    """Change a bundle as a liar would, who makes its digest right again."""
    lines = path.read_bytes().splitlines()
    values = change([json.loads(line) for line in lines])
    *before, tail = values
    body = b"".join(encode(value) + b"\n" for value in before)
    tail = tail | {"digest": "0x" + sha256(body).hexdigest()}
    path.write_bytes(body + encode(tail) + b"\n")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: b"", "head"),
        (lambda d: b"{}\n", "head"),
        (lambda d: d[:-1], "answers: no line"),
        (lambda d: d[: len(d) // 2], "no line of at most|missing|not JSON|unknown|format"),
        (lambda d: d.replace(b"bundle@1", b"bundle@2", 1), "bundle@2"),
        (lambda d: d.replace(b"answers@1", b"answers@9"), "answers@9"),
        (lambda d: d.replace(b'"chain":', b'"chain": ', 1), "not canonical"),
        (lambda d: d.replace(b'"ok"', b'"OK"', 1), "its digest is of other lines"),
        (lambda d: d.replace(b'"entries":5', b'"entries":4'), "has 5 entries, and says 4"),
        (lambda d: d.replace(b'"entries":5', b'"entries":' + b"9" * 300), "integer of 300"),
        (lambda d: d.split(b"\n", 1)[0] + b"\n", "cut off|answers"),
        (lambda d: d + b"more", "answers"),
        (lambda d: b"\xff\xfe\n" + d, "not UTF-8"),
        (lambda d: b"[" * 9000 + b"\n" + d, "nested"),
        (lambda d: b" " * 20_000 + d, "no line of at most"),
    ],
)
def test_a_bundle_that_is_none_is_refused_with_the_reason(
    node: AuditedNode, tmp_path: Path, change: Callable[[bytes], bytes], reason: str
) -> None:
    path = tmp_path / "audit.bundle"
    assert save(node, path).ok
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BundleError, match=reason):
        run_bundle(path, TERMINAL)


ANSWER_LIES: list[tuple[str, Any, str]] = [
    ("note", 7, "no text"),
    ("anchored", [], "an object belongs"),
    ("anchored", {"anchors": [{"size": 1}]}, "missing"),
    ("channel", {"balance": "-1", "totalClaimed": "0"}, "not an amount"),
    ("channel", {"balance": "0", "totalClaimed": str(2**256)}, "not an amount"),
    ("ledger", {}, "missing"),
    ("record", {"none": "none", "more": "x"}, "unknown"),
    ("record", {"refused": "KeyError", "message": "x"}, "is no refusal"),
    ("block", {"number": 1, "hash": "0x", "timestamp": 1}, "hex digits"),
    ("attestations", {"attestations": [7]}, "an object belongs"),
]


@pytest.mark.parametrize(("asked", "answer", "reason"), ANSWER_LIES)
def test_an_answer_without_its_form_is_refused(
    node: AuditedNode, tmp_path: Path, asked: str, answer: Any, reason: str
) -> None:
    path = tmp_path / "audit.bundle"
    assert save(node, path).ok

    def change(lines: list[Any]) -> list[Any]:
        answers = lines[-1]["answers"]
        for question in answers:
            if question.split(" ")[0] == asked:
                answers[question] = answer
        return lines

    rewritten(path, change)
    with pytest.raises(BundleError, match=reason):
        run_bundle(path, TERMINAL)


def test_a_question_that_was_not_asked_has_no_answer(node: AuditedNode, tmp_path: Path) -> None:
    path = tmp_path / "audit.bundle"
    assert save(node, path).ok
    rewritten(path, lambda lines: [*lines[:-1], lines[-1] | {"answers": {}}])
    with pytest.raises(BundleError, match="was not told: note"):
        run_bundle(path, TERMINAL)


def test_a_proof_of_another_size_accuses(node: AuditedNode, tmp_path: Path) -> None:
    path = tmp_path / "audit.bundle"
    assert save(node, path).ok

    def change(lines: list[Any]) -> list[Any]:
        lines[-1]["answers"]["consistency 3 5"] = ["0x" + "00" * 32] * 7
        return lines

    rewritten(path, change)
    report, _ = run_bundle(path, TERMINAL)
    assert "too many" in report.failed[0].detail


def test_entries_taken_out_of_a_bundle_are_missed(node: AuditedNode, tmp_path: Path) -> None:
    path = tmp_path / "audit.bundle"
    assert save(node, path).ok
    rewritten(path, lambda lines: [*lines[:2], *lines[3:-1], lines[-1] | {"entries": 4}])
    report, _ = run_bundle(path, TERMINAL)
    assert report.failed[0].detail == "entry 2 stands at 1"


def test_a_bundle_of_another_node_is_refused(node: AuditedNode, tmp_path: Path) -> None:
    path = tmp_path / "audit.bundle"
    assert save(node, path).ok
    with pytest.raises(BundleError, match="the bundle is of node"):
        run_bundle(path, TERMINAL, address=STRANGER.address)
    assert open_bundle(path).head.target == node.target
