"""Receipts dated back or forward, models whose blocks are stale, and what models descend from."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from pathlib import Path

import pytest

from inference.audit.model_standing import Terms
from inference.audit.report import CheckResult
from inference.auditor import Questions
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.record import Kind, record_id
from tests.inference.audited_node import ATTESTER, FUNDER, AuditedNode, Model, World


@pytest.fixture(scope="module")
def world(chain: Chain, deployment: Deployment) -> World:
    return World(chain, deployment)


@pytest.fixture(scope="module")
def model(world: World) -> Model:
    return world.register(secrets.token_bytes(32))


@pytest.fixture
def node(world: World, model: Model, tmp_path: Path) -> AuditedNode:
    return AuditedNode.open(world, model, tmp_path)


def sell(node: AuditedNode, late: int = 0, status: str = "ok") -> None:
    """Sell as of so many seconds from now, by the chain's clock where others put it forward."""
    now = max(int(time.time()), node.model.block.timestamp)
    facts = node.facts(**({} if status == "ok" else {"charged": 0}))
    node.sell(replace(facts, served_at=now + late, status=status))


def finding(node: AuditedNode, number: int, **terms: int) -> CheckResult:
    report = node.audit(Questions(replace(Terms(), **terms)))
    found = [check for check in report.failed if check.number == number]
    assert found, report.to_json()
    assert found[0].evidence["receipt"]
    return found[0]


# 4: when


def test_a_receipt_dated_before_one_that_stands_before_it_is_caught(node: AuditedNode) -> None:
    sell(node, 400)
    sell(node)
    check = finding(node, 4)
    assert "s before one that stands before it" in check.detail
    assert check.evidence["before"]


def test_a_receipt_dated_after_it_was_anchored_is_caught(node: AuditedNode) -> None:
    sell(node, 3600)
    node.anchor()
    assert "s after it was anchored on chain" in finding(node, 4).detail


def test_a_receipt_dated_long_before_the_anchor_that_lacks_it_is_caught(node: AuditedNode) -> None:
    sell(node)
    node.anchor()
    sell(node, -290)
    assert node.audit(Questions(Terms(skew_s=3600))).ok
    check = finding(node, 4, anchor_delay_s=60, skew_s=3600)
    assert "s before 1 entries, not this one, were anchored" in check.detail


def test_calls_may_end_in_another_order_and_failures_be_logged_late(node: AuditedNode) -> None:
    sell(node, 100)
    sell(node)
    sell(node, -100_000, status="failed")
    node.anchor()
    assert node.audit().ok


# 6: fresh blocks


def test_a_receipt_dated_before_the_block_it_names_is_caught(node: AuditedNode) -> None:
    sell(node, -290)
    assert "s before block" in finding(node, 6).detail


def test_a_block_that_had_a_successor_for_long_is_caught(world: World, node: AuditedNode) -> None:
    world.register(secrets.token_bytes(32))
    sell(node, 500)
    assert node.audit().ok
    assert "had had a successor for" in finding(node, 6, block_age_s=60).detail


def test_the_newest_block_may_be_of_any_age(world: World, node: AuditedNode) -> None:
    node.model = replace(node.model, block=world.chain.head())
    sell(node, 100_000)
    assert node.audit().ok


# 6: ancestors


def descendant(world: World, *parents: bytes) -> Model:
    digest = secrets.token_bytes(32)
    world.records.register(FUNDER, Kind.MODEL, digest, list(parents))
    model_id = record_id(FUNDER.address, digest)
    until = int(time.time()) + 10**6
    world.book.attest(ATTESTER, model_id, "integrity", 10_000, until)
    return Model(model_id, digest, world.chain.head())


def test_an_adapter_whose_base_was_revoked_is_caught(world: World, node: AuditedNode) -> None:
    base = world.register(secrets.token_bytes(32))
    node.model = descendant(world, base.model_id)
    sell(node)
    assert node.audit().ok
    world.records.revoke(FUNDER, base.model_id, "stolen")
    assert node.audit().ok  # at the block that the receipt names it stood
    node.model = replace(node.model, block=world.chain.head())
    sell(node)
    check = finding(node, 6)
    assert f"descends from model 0x{base.model_id.hex()}, revoked" in check.detail
    assert node.audit(Questions(Terms(revoked_parents=True))).ok


def test_a_lineage_is_walked_to_its_end(world: World, node: AuditedNode) -> None:
    first = world.register(secrets.token_bytes(32))
    second = descendant(world, first.model_id)
    third = descendant(world, first.model_id, second.model_id)
    world.records.revoke(FUNDER, first.model_id, "stolen")
    node.model = replace(third, block=world.chain.head())
    sell(node)
    assert f"0x{first.model_id.hex()}, revoked" in finding(node, 6).detail
    check = finding(node, 6, max_ancestors=1, revoked_parents=1)
    assert "more than 1 ancestors" in check.detail


# 2: names


def test_a_node_with_two_logs_does_not_choose_which_is_audited(
    world: World, node: AuditedNode, model: Model, tmp_path: Path
) -> None:
    sell(node)
    node.anchor()
    other = AuditedNode.open(world, model, tmp_path, node.key)
    other.origin = "example.org/second"
    other.count = 50
    sell(other)
    other.anchor()
    report = other.audit(Questions(told_origin=False))
    assert [check.number for check in report.failed] == [2]
    assert report.failed[0].evidence["origins"] == [node.origin]
    assert report.exit_code == 22
    told = other.audit()
    assert told.ok
    assert "1 logs of other names were anchored" in told.checks[1].detail
