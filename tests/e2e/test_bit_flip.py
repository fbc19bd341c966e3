"""Weights that change in memory: the model stops within one interval, and nothing more is charged.

The node is the real one, on a real chain, behind a real socket; a test reaches into its memory.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.audit_command import run_audit
from inference.catalog import CatalogEntry
from inference.client import CLASSIFY
from inference.config import load
from inference.errors import NodeError
from inference.patrol import INCIDENT
from registry.terminal import Terminal
from tests.e2e.market import CHAT_PATH, ask
from tests.e2e.shop import Shop, opened
from tests.inference import tiny_models

INTERVAL_S = 1
# What a busy machine may add: two cores run many tests beside this one.
SLACK_S = 4
WEIGHT = "model.layers.1.mlp.up_proj.weight"
NORM = "model.norm.weight"
BERT = "bystander"


@dataclass
class Lab:
    """A shop and two models: one to break, again and again, and one that must not notice."""

    shop: Shop
    chat: bytes
    names: Iterator[str] = field(
        default_factory=lambda: (f"victim-{number}" for number in itertools.count())
    )

    def victim(self) -> CatalogEntry:
        """Load one more copy of the chat model, under a name of its own."""
        name = next(self.names)
        self.shop.place(name, self.chat)
        return next(entry for entry in self.shop.node.catalog if entry.name == name)

    def charged(self) -> int:
        return sum(int(receipt["payment"]["charged"]) for receipt in self.shop.receipts())

    def incidents(self, tensor: str) -> list[dict[str, Any]]:
        found = [body for body in self.shop.entries("incident") if body["incident"] == INCIDENT]
        return [body for body in found if f"tensor {tensor} " in body["detail"]]

    def wait_for_incident(self, tensor: str, count: int = 1) -> dict[str, Any]:
        """Return the newest of `count` incidents: a model is stopped before it is told."""
        begun = time.monotonic()
        while len(self.incidents(tensor)) < count:
            assert time.monotonic() - begun < SLACK_S
            time.sleep(0.01)
        return self.incidents(tensor)[-1]

    def wait_for_stop(self, entry: CatalogEntry) -> float:
        begun = time.monotonic()
        while not self.shop.node.catalog.standing(entry).tampered:
            assert time.monotonic() - begun < INTERVAL_S + SLACK_S
            time.sleep(0.01)
        return time.monotonic() - begun


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    with opened(folder, f"resident_check_s = {INTERVAL_S}") as shop:
        # Room for an answer that takes longer than an interval.
        chat = shop.publish(tiny_models.llama(folder / "llama", context=4096))
        shop.place(BERT, shop.publish(tiny_models.bert_classifier(folder / "bert"), "classify"))
        yield Lab(shop, chat)


def tensor(entry: CatalogEntry, name: str) -> torch.Tensor:
    module = entry.loaded.module
    return (dict(module.named_parameters()) | dict(module.named_buffers()))[name].detach()


def flipped(name: str, byte: int, bit: int) -> Callable[[CatalogEntry], object]:
    def flip(entry: CatalogEntry) -> None:
        tensor(entry, name).view(-1).view(torch.uint8)[byte] ^= 1 << bit

    return flip


def norm(entry: CatalogEntry) -> Any:
    module: Any = entry.loaded.module
    return module.model.norm


def replaced(entry: CatalogEntry) -> None:
    other = norm(entry).weight.detach().clone()
    other[3] += 1
    norm(entry).weight = torch.nn.Parameter(other)


def repointed(entry: CatalogEntry) -> None:
    other = norm(entry).weight.detach().clone()
    other[31] *= 2
    norm(entry).weight.data = other


def cast(entry: CatalogEntry) -> None:
    norm(entry).weight.data = norm(entry).weight.data.double()


def spread(entry: CatalogEntry) -> None:
    # The same numbers read in another order: a view whose steps are negative does not exist.
    norm(entry).weight.data = norm(entry).weight.data.flip(0)


def removed(entry: CatalogEntry) -> None:
    norm(entry).weight = None


def other_module(entry: CatalogEntry) -> None:
    module: Any = entry.loaded.module
    module.model.layers[1].mlp.up_proj = torch.nn.Linear(32, 64, bias=False)


def added(entry: CatalogEntry) -> None:
    norm(entry).register_buffer("bias", torch.zeros(32))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (flipped(WEIGHT, 0, 0), WEIGHT),
        (flipped(WEIGHT, 64 * 32 * 4 - 1, 7), WEIGHT),
        (flipped("model.embed_tokens.weight", 777, 6), "model.embed_tokens.weight"),
        (flipped("lm_head.weight", 4, 1), "lm_head.weight"),
        (flipped(NORM, 2, 5), NORM),
        (flipped("model.rotary_emb.inv_freq", 3, 0), "model.rotary_emb.inv_freq"),
        (replaced, NORM),
        (repointed, NORM),
        (cast, NORM),
        (spread, NORM),
        (removed, NORM),
        (other_module, WEIGHT),
        (added, "model.norm.bias"),
    ],
    ids=[
        "first bit",
        "last bit",
        "embedding",
        "head",
        "norm",
        "computed buffer",
        "replaced parameter",
        "other memory",
        "other dtype",
        "other order",
        "removed parameter",
        "other module",
        "added tensor",
    ],
)
def test_a_model_whose_memory_changed_is_stopped_within_one_interval(
    lab: Lab, change: Callable[[CatalogEntry], object], name: str
) -> None:
    entry, before, told = lab.victim(), lab.charged(), len(lab.incidents(name))
    body = ask() | {"model": entry.name}
    with lab.shop.http() as client:
        assert client.post(CHAT_PATH, json=body).status_code == 402
        change(entry)
        lab.wait_for_stop(entry)
        answer = client.post(CHAT_PATH, json=body)
        # No offer to pay, no charge, no statement; and everybody sees why.
        assert answer.status_code == 410
        assert "PAYMENT-REQUIRED" not in answer.headers
        assert f"tensor {name} " in answer.json()["error"]["message"]
        attested = client.post(f"/v1/models/{entry.name}/attest", json={"nonce": "0x" + "0c" * 32})
        assert attested.status_code == 410
        assert client.get("/healthz").json()["stopped"][entry.name]
    with pytest.raises(NodeError):
        lab.shop.call(body)
    assert lab.charged() == before
    assert lab.wait_for_incident(name, told + 1)["subject"] == entry.model_id
    assert len(lab.incidents(name)) == told + 1


def test_other_models_sell_on_and_the_auditor_accepts_the_log(lab: Lab) -> None:
    entry = lab.victim()
    flipped(WEIGHT, 9, 2)(entry)
    lab.wait_for_stop(entry)
    lab.wait_for_incident(WEIGHT)
    other = lab.victim()
    sold = lab.shop.call(ask() | {"model": other.name}).signed.receipt
    assert sold.status == "ok"
    read = {"model": BERT, "input": "fine"}
    assert lab.shop.call(read, CLASSIFY, scheme="exact").signed.receipt.payment.charged
    terminal = Terminal(as_json=True)
    report = run_audit(load(lab.shop.config), lab.shop.url, terminal, address=lab.shop.address)
    assert report.ok, report.to_json()
    assert report.size > sold.seq


def test_weights_changed_between_load_and_first_look_do_not_sell_for_long(lab: Lab) -> None:
    entry, told = lab.victim(), len(lab.incidents(WEIGHT))
    flipped(WEIGHT, 1, 1)(entry)
    lab.wait_for_stop(entry)
    lab.wait_for_incident(WEIGHT, told + 1)


def test_a_call_in_flight_fails_and_is_not_charged(lab: Lab) -> None:
    entry, before = lab.victim(), lab.charged()
    body = ask("Tell me everything.") | {"model": entry.name, "max_tokens": 1024}
    raised: list[NodeError] = []

    def call() -> None:
        try:
            lab.shop.call(body)
        except NodeError as error:
            raised.append(error)

    calling = threading.Thread(target=call)
    calling.start()
    begun = time.monotonic()
    while not running(entry):
        assert time.monotonic() - begun < 30, raised
        time.sleep(0.002)
    flipped(WEIGHT, 5, 3)(entry)
    with lab.shop.http() as client:
        # Found by whoever looks first: the patrol, or a stranger who asks for all tensors.
        question = {"nonce": "0x" + "0c" * 32, "tensors": 64}
        assert client.post(f"/v1/models/{entry.name}/attest", json=question).status_code == 410
    assert running(entry), "the call ended before the flip was found; make it longer"
    calling.join(120)
    assert "was stopped while it answered" in raised[0].message
    last = lab.shop.receipts()[-1]
    assert last["model"]["name"] == entry.name
    assert (last["status"], last["payment"]["charged"]) == ("failed", "0")
    assert lab.charged() == before


def running(entry: CatalogEntry) -> bool:
    return entry.engine.stats().running > 0


def strange(entry: CatalogEntry) -> None:
    norm(entry).weight.data = norm(entry).weight.data.to(torch.complex64)


@pytest.mark.parametrize(
    ("change", "detail"),
    [(flipped(NORM, 2, 5), f"tensor {NORM} changed"), (strange, "a tensor cannot be hashed")],
    ids=["one bit", "strange dtype"],
)
def test_an_attestation_finds_what_the_patrol_has_not_seen_yet(
    tmp_path: Path, change: Callable[[CatalogEntry], object], detail: str
) -> None:
    with opened(tmp_path, "resident_check_s = 3600") as shop:
        lab = Lab(shop, shop.publish(tiny_models.llama(tmp_path / "llama")))
        entry = lab.victim()
        question = {"nonce": "0x" + "0c" * 32, "tensors": 64}
        change(entry)
        with shop.http() as client:
            answer = client.post(f"/v1/models/{entry.name}/attest", json=question)
            assert answer.status_code == 410
            assert "signature" not in answer.json()
            assert client.post(CHAT_PATH, json=ask() | {"model": entry.name}).status_code == 410
        told = [body["detail"] for body in shop.entries("incident")]
        assert len(told) == 1
        assert told[0].startswith(detail)
