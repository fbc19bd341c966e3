"""How an audit is told: exit codes, files of evidence that stand alone, a page by itself."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from inference.audit.evidence import Drop, Fork, Silence, Twins, parse_evidence
from inference.audit.report import Report
from inference.audit.report_page import page
from inference.auditor import Questions
from inference.finding_files import write_findings
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from tests.inference.audited_node import COST, AuditedNode, Model, World


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
    other = AuditedNode.open(node.world, node.model, folder, node.key)
    other.count = 100
    return other


def files(report: Report, node: AuditedNode, folder: Path) -> dict[str, bytes]:
    written = write_findings(report, node.target, folder / "found")
    assert sorted(written) == sorted((folder / "found").iterdir())
    return {path.name: path.read_bytes() for path in written}


def test_a_fork_becomes_evidence_that_stands_alone(node: AuditedNode, tmp_path: Path) -> None:
    other = twin(node, tmp_path)
    for _ in range(3):
        other.sell()
    report = other.audit(Questions(known=[node.checkpoint().note]))
    assert report.exit_code == 22
    written = files(report, other, tmp_path)
    [name] = [name for name in written if name.endswith(".fork.json")]
    fork = parse_evidence(written[name])
    assert isinstance(fork, Fork)
    fork.check()
    assert fork.node == node.key.address


def test_a_head_that_does_not_extend_the_anchored_one_becomes_a_question(
    node: AuditedNode, tmp_path: Path
) -> None:
    node.anchor()
    other = twin(node, tmp_path)
    for _ in range(5):
        other.sell()
    written = files(other.audit(), other, tmp_path)
    [name] = [name for name in written if name.endswith(".silence.json")]
    asked = parse_evidence(written[name])
    assert isinstance(asked, Silence)
    asked.check()


def test_a_receipt_whose_place_another_took_becomes_twins_and_a_drop(
    node: AuditedNode, tmp_path: Path
) -> None:
    other = twin(node, tmp_path)
    given = other.sell()
    report = node.audit(Questions(given=[given]))
    assert report.exit_code == 27
    written = files(report, node, tmp_path)
    kinds = {type(parse_evidence(data)) for name, data in written.items() if "finding" not in name}
    assert kinds == {Twins, Drop}
    for name, data in written.items():
        if "finding" not in name:
            parse_evidence(data).check()


def test_every_finding_is_written_down_with_whose_log_it_is(
    node: AuditedNode, tmp_path: Path
) -> None:
    lie = node.sell(node.facts(charged=COST + 1))
    report = node.audit()
    assert report.exit_code == 25
    [(name, data)] = files(report, node, tmp_path).items()
    assert name == f"check-5-{lie.receipt.id}.finding.json"
    finding = json.loads(data)
    assert finding["format"] == "weightproof/finding@1"
    assert (finding["node"], finding["origin"]) == (node.key.address, node.origin)
    assert finding["evidence"]["receipt"] == lie.public()


def test_the_first_check_that_failed_gives_the_exit_code(node: AuditedNode) -> None:
    assert node.audit().exit_code == 0
    node.sell(node.facts(charged=COST + 1))
    node.sell(replace(node.facts(), id="rcpt_0000000000000001"))
    report = node.audit()
    assert [check.number for check in report.failed] == [4, 5]
    assert report.exit_code == report.to_json()["exitCode"] == 24
    node.show["checkpoint"] = lambda _: "none"
    assert node.audit().exit_code == 21


def test_a_report_has_a_version_and_figures(node: AuditedNode) -> None:
    told = node.audit().to_json()
    assert told["format"] == "weightproof/audit@2"
    assert told["figures"] == {
        "entries": 3, "before": 0, "receipts": 3, "charged": str(3 * COST), "claimed": "0",
        "unclaimed": str(3 * COST), "channels": 1, "exact": 0, "models": 1, "anchors": 0,
    }  # fmt: skip
    assert json.loads(json.dumps(told)) == told


def test_the_page_shows_all_and_loads_nothing(node: AuditedNode) -> None:
    shown = page(node.audit(), now=0)
    assert "Every check that ran is good" in shown
    assert "1970-01-01" in shown
    assert shown.count("<rect") == 2
    for foreign in ("http://", "https://", "<script", "<link", "url("):
        assert foreign not in shown
    node.sell(node.facts(charged=COST + 1))
    assert "Something is false: check 5" in page(node.audit())


def test_what_a_node_says_cannot_become_part_of_the_page(node: AuditedNode) -> None:
    report = node.audit()
    sly = replace(report, origin="<script>alert(1)</script>", source="bundle")
    checks = tuple(replace(check, detail="<img src=x>") for check in report.checks)
    shown = page(replace(sly, checks=checks))
    assert "<script" not in shown
    assert "<img" not in shown
    assert "on the word of whoever saved it" in shown
