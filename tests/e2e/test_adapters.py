"""A node that sells a model and an adapter of it: two models, two proofs, one base on chain."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from inference.audit_command import run_audit
from inference.client import CHAT as CHAT_ROUTE
from inference.config import load
from inference.errors import ModelStoppedError, NodeError
from inference.operator import ModelRefusedError
from inference.probe_command import probe
from inference.shown import Shown
from registry.manifest import Parent
from registry.record import Kind
from registry.register import register_model
from registry.terminal import Terminal
from tests.e2e.market import ask
from tests.e2e.shop import Shop, opened
from tests.inference import tiny_models
from tests.inference.tiny_adapters import adapter, attention

BASE = "plain"
ADAPTER = "changed"
YEAR_S = 365 * 24 * 3600
SIDES = attention([0, 1], 32)
Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    # The patrol stays out of the way: what is found here, somebody asked for.
    with opened(folder, "resident_check_s = 3600") as shop:
        base = shop.publish(tiny_models.llama(folder / BASE, context=2048))
        vouch(shop, changed := publish(shop, ADAPTER, base))
        for name, model_id in ((BASE, base), (ADAPTER, changed)):
            shop.place(name, model_id)
        yield shop


def publish(shop: Shop, name: str, base: bytes, seed: int = 3) -> bytes:
    """Register an adapter that nobody vouches for yet."""
    return register_model(
        adapter(shop.config.parent / name, SIDES, seed=seed),
        name=name,
        task="chat",
        parents=[Parent(Kind.MODEL, base)],
        blocks=shop.workspace.blocks,
        registry=shop.workspace.records,
        signer=shop.workspace.signer("publisher"),
    ).id


def vouch(shop: Shop, model_id: bytes, seconds: int = YEAR_S) -> None:
    expires_at = int(time.time()) + seconds
    signer = shop.workspace.signer("attester")
    shop.workspace.attestations.attest(signer, model_id, "integrity", 10_000, expires_at)


def of(shop: Shop, name: str) -> Any:
    return shop.node.catalog.get(name)


def facts(shop: Shop) -> dict[str, Any]:
    with shop.http() as client:
        models = client.get("/v1/models").json()["data"]
    return {model["id"]: model["weightproof"] for model in models}


def test_an_adapter_that_nobody_vouches_for_is_not_loaded_upon_a_base_that_is_sold(
    shop: Shop,
) -> None:
    other = publish(shop, "unknown", of(shop, BASE).verified.model_id, seed=4)
    with pytest.raises(ModelRefusedError, match="0 known attesters"):
        shop.place("unknown", other)
    assert set(facts(shop)) == {BASE, ADAPTER}


def test_base_and_adapter_answer_paid_calls_under_receipts_of_their_own(shop: Shop) -> None:
    answers = {name: shop.call(ask(model=name, max_tokens=32)) for name in (BASE, ADAPTER)}
    models = {name: answer.signed.receipt.model for name, answer in answers.items()}
    assert answers[BASE].text != answers[ADAPTER].text
    for name, model in models.items():
        assert model.model_id == of(shop, name).verified.model_id
        assert model.manifest_digest == of(shop, name).verified.manifest_digest
        assert "0x" + model.resident_digest.hex() == facts(shop)[name]["resident_digest"]
    assert models[BASE].model_id != models[ADAPTER].model_id
    assert models[BASE].resident_digest != models[ADAPTER].resident_digest
    # What was sold is run again by an auditor, who finds the base by the chain alone.
    shown = [Shown(answer.signed, answer.request) for answer in answers.values()]
    shop.node.settlement.tick()
    shop.node.settlement.anchor()
    terminal = Terminal(as_json=True)
    report = run_audit(load(shop.config), shop.url, terminal, address=shop.address, shown=shown)
    assert report.ok, report.to_json()
    assert all(check.ran for check in report.checks)


def test_an_adapter_takes_the_memory_of_its_base_too(shop: Shop) -> None:
    base, changed = of(shop, BASE), of(shop, ADAPTER)
    added = sum(4 * 2 * 4 * 32 for _ in SIDES)
    assert base.loaded.plan is not None
    assert changed.loaded.plan is not None
    # Beside the weights: the base computes from a packed copy, the adapter as it is.
    weights = base.memory - base.loaded.plan.nbytes
    assert changed.memory - changed.loaded.plan.nbytes == weights + added


def test_a_probe_of_an_adapter_covers_its_base(shop: Shop) -> None:
    terminal = Terminal(as_json=True)
    report = probe(shop.workspace, shop.url, ADAPTER, terminal, address=shop.address, tensors=64)
    assert report.ok, report.to_json()
    names = {tensor["name"] for tensor in report.statement["statement"]["tensors"]}
    assert {f"{Q}.weight", f"{Q}.lora_A.weight", f"{Q}.lora_B.weight"} <= names
    assert len(names) == len(of(shop, ADAPTER).verified.tensors)


@pytest.mark.parametrize("part", [f"{Q}.lora_B.weight", f"{Q}.weight"])
def test_a_changed_weight_stops_the_adapter_and_not_its_base(shop: Shop, part: str) -> None:
    """Each holds its own copy of the base's weights."""
    entry = of(shop, ADAPTER)
    weight = entry.loaded.module.get_parameter(part).detach().view(-1).view(torch.uint8)
    weight[5] ^= 1
    with pytest.raises(ModelStoppedError, match=f"tensor {part} changed in memory"):
        entry.loaded.resident.check()
    # Asked for all of its tensors, the node finds it, and sells the adapter no more.
    time.sleep(2)
    with shop.http() as client:
        body = {"nonce": "0x" + "11" * 32, "tensors": 64}
        assert client.post(f"/v1/models/{ADAPTER}/attest", json=body).status_code == 410
    with pytest.raises(NodeError, match="not sold any more"):
        shop.call(ask(model=ADAPTER))
    assert shop.call(ask(model=BASE)).charged > 0
    shop.place(ADAPTER, entry.verified.model_id)
    assert shop.call(ask(model=ADAPTER)).charged > 0


def test_an_adapter_is_sold_no_longer_than_somebody_vouches_for_its_base(shop: Shop) -> None:
    """No block comes meanwhile: the node must know by itself when the base's attestation ends."""
    folder = tiny_models.llama(shop.config.parent / "brief", context=1024)
    base = register_model(
        folder,
        name="brief",
        task="chat",
        parents=(),
        blocks=shop.workspace.blocks,
        registry=shop.workspace.records,
        signer=shop.workspace.signer("publisher"),
    ).id
    changed = publish(shop, "of brief", base)
    vouch(shop, changed)
    vouch(shop, base, 12)
    ends = time.monotonic() + 12
    shop.place("of brief", changed)
    assert time.monotonic() < ends, "loading took too long for this test"
    assert shop.node.catalog.stopped("of brief") == ""
    while not (reason := shop.node.catalog.stopped("of brief")):
        assert time.monotonic() < ends + 5
        time.sleep(0.05)
    assert reason.startswith(f"base 0x{base.hex()}: step 5")
    assert "0 known attesters" in reason
    with shop.operator() as operator:
        operator.unload("of brief")


def test_a_base_that_is_revoked_takes_its_adapter_with_it(shop: Shop) -> None:
    """Last: a revocation is for good."""
    base, changed = (of(shop, name).verified.model_id for name in (BASE, ADAPTER))
    sold = len(shop.entries("receipt"))
    shop.workspace.records.revoke(shop.workspace.signer("publisher"), base, "poisoned")
    until = time.monotonic() + 10
    while set(shop.node.health()["stopped"]) != {BASE, ADAPTER}:
        assert time.monotonic() < until
        time.sleep(0.05)
    with shop.http() as client:
        for name in (BASE, ADAPTER):
            answer = client.post(CHAT_ROUTE, json=ask(model=name))
            assert (answer.status_code, answer.json()["error"]["code"]) == (410, "model_stopped")
    assert len(shop.entries("receipt")) == sold
    told = {body["subject"]: body["detail"] for body in shop.entries("incident")}
    assert f"tainted by model 0x{base.hex()}" in told["0x" + changed.hex()]
    with pytest.raises(ModelRefusedError, match="tainted by model"):
        shop.place("again", changed)
