"""What an auditor remembers is its own, of one log, and saves it from reading anything twice."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.audit.audit_state import StateError, parse_state
from inference.audit_memory import AuditMemory
from inference.auditor import Questions
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.signing.canonical import encode
from tests.inference.audited_node import COST, FUNDER, AuditedNode, Model, World
from tests.inference.receipt_samples import CHANNEL, PAYER


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


@pytest.fixture
def memory(tmp_path: Path) -> AuditMemory:
    return AuditMemory(tmp_path / "mine", tmp_path / "shared" / "state.json")


def resume(node: AuditedNode, memory: AuditMemory) -> Any:
    return node.audit(Questions(memory=memory))


def state_path(memory: AuditMemory) -> Path:
    assert memory.path is not None
    return memory.path


# refusals


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state | {"charged": "1"},
        lambda state: state | {"channels": []},
        lambda state: state | {"size": 2},
        lambda state: state | {"seal": "0x" + "00" * 32},
        lambda state: state | {"ids": ""},
    ],
)
def test_a_state_that_was_changed_is_refused(
    node: AuditedNode, memory: AuditMemory, change: Callable[[Any], Any]
) -> None:
    assert resume(node, memory).ok
    state = json.loads(state_path(memory).read_bytes())
    state_path(memory).write_bytes(encode(change(state)))
    with pytest.raises(StateError, match="was changed, or another auditor's key wrote it"):
        resume(node, memory)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not JSON"),
        (b"{}", "format"),
        (b'{"format":"weightproof/audit-state@2"}', "audit-state@2"),
        (b'{"format":"weightproof/audit-state@1"}', "missing"),
        (b'{"format": "weightproof/audit-state@1"}', "not canonical"),
        (b"[" * 100_000, "nested"),
        (b'{"size":' + b"9" * 400 + b"}", "integer of 400"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_a_state_that_is_none_is_refused(
    node: AuditedNode, memory: AuditMemory, text: bytes, reason: str
) -> None:
    state_path(memory).parent.mkdir()
    state_path(memory).write_bytes(text)
    with pytest.raises(StateError, match=reason):
        resume(node, memory)


def test_a_state_with_another_field_is_refused(node: AuditedNode, memory: AuditMemory) -> None:
    assert resume(node, memory).ok
    state = json.loads(state_path(memory).read_bytes())
    with pytest.raises(StateError, match="unknown"):
        parse_state(encode(state | {"note": "hi"}))


def test_the_state_of_another_log_is_refused(
    node: AuditedNode, memory: AuditMemory, world: World, model: Model, tmp_path: Path
) -> None:
    assert resume(node, memory).ok
    other = AuditedNode.open(world, model, tmp_path)
    with pytest.raises(StateError, match=f"is of {node.key.address}'s log"):
        resume(other, memory)


def test_the_state_of_another_auditor_is_refused(
    node: AuditedNode, memory: AuditMemory, tmp_path: Path
) -> None:
    assert resume(node, memory).ok
    with pytest.raises(StateError, match="another auditor's key"):
        resume(node, AuditMemory(tmp_path / "yours", memory.path))


# lies across two audits


def test_a_log_that_was_rewritten_since_is_caught(
    node: AuditedNode, memory: AuditMemory, tmp_path: Path
) -> None:
    assert resume(node, memory).ok
    seen = node.checkpoint().note
    other = AuditedNode.open(node.world, node.model, tmp_path, node.key)
    other.count = 100
    for _ in range(5):
        other.sell()
    report = resume(other, memory)
    assert report.failed[0].number == 2
    assert report.failed[0].evidence["known"] == seen
    assert parse_state(state_path(memory).read_bytes()).checkpoint == seen


def test_a_charge_booked_twice_across_two_audits_is_caught_with_both_receipts(
    node: AuditedNode, memory: AuditMemory
) -> None:
    assert resume(node, memory).ok
    before = node.database.read(lambda tx: node.log.entry_bytes(tx, 2, 3))[0]
    lie = node.sell(node.facts(cumulative=5 * COST))
    [check] = resume(node, memory).failed
    assert f"had {3 * COST}, this call cost {COST}" in check.detail
    assert check.evidence == {"receipt": lie.public(), "before": json.loads(before)["body"]}


def test_an_id_used_again_after_the_first_audit_is_caught(
    node: AuditedNode, memory: AuditMemory
) -> None:
    assert resume(node, memory).ok
    node.sell(replace(node.facts(), id="rcpt_0000000000000001"))
    [check] = resume(node, memory).failed
    assert check.number == 4
    assert "two receipts have the id rcpt_0000000000000001" in check.detail


def test_a_revocation_after_the_first_audit_is_held_against_what_was_sold_before(
    world: World, node: AuditedNode, memory: AuditMemory
) -> None:
    """Dated ahead, so that only the revocation shows the lie, of a receipt read long ago."""
    node.model = world.register(secrets.token_bytes(32))
    lie = node.sell(replace(node.facts(), served_at=int(time.time()) + 200))
    assert resume(node, memory).ok
    world.records.revoke(FUNDER, node.model.model_id, "unsafe")
    report = resume(node, memory)
    assert report.figures.entries == 0
    [check] = report.failed
    assert "after it was revoked" in check.detail
    assert check.evidence == {"receipt": lie.public()}


# honest


def test_a_second_audit_reads_only_what_is_new(node: AuditedNode, memory: AuditMemory) -> None:
    node.anchor()
    first = resume(node, memory)
    assert first.ok
    asked: list[int] = []

    def entries(texts: list[str], start: int) -> list[str]:
        asked.append(start)
        return texts

    node.show["entries"] = entries
    for _ in range(2):
        node.sell()
    node.claim(CHANNEL, COST)
    node.anchor()
    second = resume(node, memory)
    assert second.ok, second.to_json()
    assert asked == [3]
    assert (second.figures.entries, second.figures.before) == (3, 3)
    assert second.checks[2].detail == "6 entries give the signed root, 3 of them new"
    assert "and the 3 entries audited before" in second.checks[1].detail
    assert second.figures.receipts == 5
    assert second.figures.charged == 5 * COST
    third = resume(node, memory)
    assert third.ok
    assert third.figures.entries == 0


def test_what_is_remembered_is_what_a_whole_audit_adds_up(
    node: AuditedNode, memory: AuditMemory, tmp_path: Path
) -> None:
    assert resume(node, memory).ok
    node.sell()
    assert resume(node, memory).ok
    at_once = AuditMemory(memory.folder, tmp_path / "once.json")
    assert resume(node, at_once).ok
    assert state_path(memory).read_bytes() == (tmp_path / "once.json").read_bytes()


def test_what_was_false_is_not_remembered(node: AuditedNode, memory: AuditMemory) -> None:
    node.sell(node.facts(charged=COST + 1))
    assert not resume(node, memory).ok
    assert not state_path(memory).exists()


def test_without_a_path_each_log_has_a_file_of_its_own(
    node: AuditedNode, world: World, model: Model, tmp_path: Path
) -> None:
    memory = AuditMemory(tmp_path / "mine")
    other = AuditedNode.open(world, model, tmp_path)
    other.sell(other.facts(payer=PAYER.address))
    assert resume(node, memory).ok
    assert resume(other, memory).ok
    files = sorted(path.name for path in memory.folder.iterdir())
    assert len(files) == 3
    assert "audit.key" in files
    assert (memory.folder / "audit.key").stat().st_mode & 0o777 == 0o600
