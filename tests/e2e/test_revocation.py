"""Revocation that bites: how soon a node stops selling, and what a chain in trouble makes it do.

The delays that are measured are kept as properties of the tests (`--junitxml` shows them) and
printed; what is asserted is the bound the node promises.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from inference.client import CHAT as CHAT_ROUTE
from inference.client import PaidAnswer
from inference.demo.node_process import NodeProcess
from registry.chain.connection import Chain
from registry.chain.dev_usd import balance
from registry.chain.devnet import Devnet
from registry.config import read_file, registry_config
from registry.devnet_file import add_model, prepare_devnet
from registry.manifest_parts import Parent
from registry.record import Kind
from registry.register import register_model
from registry.workspace import Workspace
from tests.e2e.market import CHAT, CHAT_PATH, CLASSIFY_PATH, PRICE, Market, ask
from tests.e2e.payments import exact, offer
from tests.fakes.rpc_proxy import RpcProxy, other_result, rpc_proxy
from tests.inference import tiny_models

# Blocks that must lie on another until it counts as final.
CONFIRMATIONS = 2
# "Within 2 blocks or 5 s of finality, whichever is later": blocks come at once here.
BOUND_S = 5.0
DAY_S = 86_400
NAMES = ("revoked", "tainted", "expiring", "lasting")


@dataclass(frozen=True)
class Street:
    """A market whose node reaches its chain through two endpoints that tests can bend."""

    market: Market
    near: RpcProxy
    far: RpcProxy
    base: bytes

    def ask(self, name: str, **more: Any) -> Any:
        """Ask unpaid; 402 means it is sold."""
        with self.market.http() as client:
            if name == CHAT:
                return client.post(CHAT_PATH, json=ask(), **more)
            return client.post(CLASSIFY_PATH, json={"model": name, "input": "fine"}, **more)

    def health(self) -> Any:
        with self.market.http() as client:
            return client.get("/healthz")

    def settle(self) -> float:
        """Make what has happened final; return when it was."""
        self.market.devnet.mine(CONFIRMATIONS)
        return time.monotonic()

    def revoke(self, id: bytes) -> int:
        """Revoke a record; return the block that holds it."""
        workspace = self.market.workspace
        return workspace.records.revoke(workspace.signer("publisher"), id, "poisoned").block

    def wait(self, reached: Callable[[], bool], seconds: float = 30) -> float:
        """Wait until something holds; return when it did."""
        ends = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < ends, self.health().json()
            time.sleep(0.02)
        return time.monotonic()

    def stops(self, name: str) -> float:
        return self.wait(lambda: self.ask(name).status_code == 410)


@contextmanager
def opened(folder: Path, *, heads: bool) -> Iterator[Street]:
    with (
        Devnet.start() as devnet,
        rpc_proxy(devnet.rpc_url) as near,
        rpc_proxy(devnet.rpc_url) as far,
    ):
        path, _ = prepare_devnet(Chain(devnet.rpc_url), folder, devnet.rpc_url)
        workspace = Workspace.open(registry_config(path, read_file(path)))
        bert = tiny_models.bert_classifier(folder / "bert")
        base = _register(workspace, bert, "base", "classify")
        chat = _talkative_llama(folder / "llama")
        models = {CHAT: _register(workspace, chat, CHAT, "chat")} | {
            name: _register(workspace, bert, name, "classify", base if name == "tainted" else b"")
            for name in NAMES
        }
        for name, model_id in models.items():
            add_model(path, name, model_id, PRICE)
        devnet.mine(CONFIRMATIONS)
        text = path.read_text()
        for old, new in (
            (f'rpc_url = "{devnet.rpc_url}"', f'rpc_url = "{near.url}"\nwitnesses = ["{far.url}"]'),
            ("port = 8402", "port = 8402\nchain_grace_s = 2"),
            ('finality = "latest"', f"finality = {CONFIRMATIONS}\ntimeout_s = 2"),
            ("[policy]", "[policy]\nmax_block_age_s = 600"),
            ('heads_url = "ws', 'heads_url = "ws' if heads else '# heads_url = "ws'),
        ):
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        with NodeProcess.start(path, log=folder / "node.log") as node:
            yield Street(Market(devnet, path, workspace, node, models), near, far, base)


def _talkative_llama(folder: Path) -> Path:
    """A model that speaks until it is cut off, for seconds: slow, and it cannot say the end."""
    config = LlamaConfig(
        vocab_size=tiny_models.VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=16,
        num_attention_heads=4,
        max_position_embeddings=2048,
        eos_token_id=tiny_models.END_ID,
    )
    model = LlamaForCausalLM(config)
    model.lm_head.weight.data[tiny_models.END_ID] = 0.0
    return tiny_models._chat_model(folder, model)


def _register(
    workspace: Workspace, folder: Path, name: str, task: str, parent: bytes = b""
) -> bytes:
    done = register_model(
        folder,
        name=name,
        task=task,
        parents=(Parent(Kind.MODEL, parent),) if parent else (),
        blocks=workspace.blocks,
        registry=workspace.records,
        signer=workspace.signer("publisher"),
    )
    _attest(workspace, done.id, "integrity", DAY_S)
    return done.id


def _attest(workspace: Workspace, model_id: bytes, tag: str, seconds: int) -> int:
    ends = max(workspace.chain.head().timestamp, int(time.time())) + seconds
    workspace.attestations.attest(workspace.signer("attester"), model_id, tag, 10_000, ends)
    return ends


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    with opened(tmp_path_factory.mktemp("street"), heads=True) as street:
        yield street


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    def note(what: str, seconds: float) -> None:
        record_property(what, f"{seconds:.3f} s")
        print(f"{what}: {seconds:.3f} s")
        assert seconds <= BOUND_S

    return note


# A chain in trouble


def test_endpoints_that_disagree_stop_all_sales_at_once_until_they_agree(street: Street) -> None:
    street.wait(lambda: street.health().status_code == 200)
    street.far.bend = other_result("eth_call", lambda r: r[:-1] + ("1" if r[-1] == "0" else "0"))
    street.settle()
    street.wait(lambda: street.health().status_code == 503, BOUND_S)
    told = street.health().json()
    assert told["status"] == "chain_disputed"
    assert "two endpoints disagree" in told["detail"]
    answer = street.ask("lasting")
    assert answer.status_code == 503
    assert "nothing was charged" in answer.json()["error"]["message"]
    assert "PAYMENT-REQUIRED" not in answer.headers
    street.far.clear()
    street.wait(lambda: street.health().json()["status"] == "ok", BOUND_S)
    assert street.ask("lasting").status_code == 402
    assert street.health().json()["stopped"] == {}


def test_an_endpoint_that_is_dark_or_behind_pauses_sales_and_stops_no_model(
    street: Street,
) -> None:
    old = hex(int(time.time()) - 10_000)
    behind = other_result("eth_getBlockByNumber", lambda block: block | {"timestamp": old})
    for status in ("chain_unreachable", "chain_stale"):
        street.wait(lambda: street.health().status_code == 200)
        if status == "chain_unreachable":
            street.far.dark = True
        else:
            street.near.bend = street.far.bend = behind
        street.wait(lambda: street.health().status_code == 503)
        told = street.health().json()
        assert told["status"] == status
        assert told["chain_silent_s"] >= 2
        answer = street.ask("lasting")
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        street.far.clear()
        street.near.clear()
        street.wait(lambda: street.ask("lasting").status_code == 402)
    assert street.health().json()["stopped"] == {}


def test_health_tells_the_final_block_and_that_heads_are_pushed(street: Street) -> None:
    street.settle()
    final = street.market.devnet.chain.block(CONFIRMATIONS)
    block = {"number": final.number, "hash": f"0x{final.hash.hex()}"}
    street.wait(lambda: street.health().json()["block"] == block, BOUND_S)
    told = street.health().json()
    assert told["status"] == "ok"
    assert told["heads"] == "pushed"
    assert "the chain answered" in told["detail"]


# Models


def test_a_revoked_model_is_refused_soon_after_the_revocation_is_final_and_costs_nothing(
    street: Street, figure: Callable[[str, float], None]
) -> None:
    market = street.market
    token = market.workspace.config.contracts.dev_usd or ""
    payer = market.workspace.signer("payer")
    body = {"model": "revoked", "input": "fine"}
    payment = exact(offer(market, body, CLASSIFY_PATH, "exact"), payer)
    before = balance(market.workspace.chain, token, payer.address)
    street.revoke(market.models["revoked"])
    time.sleep(1.5)  # a poll passes: what is not final yet stops nothing
    assert street.ask("revoked").status_code == 402
    final = street.settle()
    figure("revocation final to first refusal, heads pushed", street.stops("revoked") - final)
    answer = street.ask("revoked", headers=payment)
    assert answer.status_code == 410
    assert answer.json()["error"]["code"] == "model_stopped"
    assert "revoked by its publisher" in answer.json()["error"]["message"]
    assert "PAYMENT-REQUIRED" not in answer.headers
    assert balance(market.workspace.chain, token, payer.address) == before
    entries = market.log_entries()
    assert sum(entry["kind"] == "incident" for entry in entries) >= 1
    assert not any(entry["kind"] == "receipt" for entry in entries)


def test_a_model_tainted_by_an_ancestor_is_refused_soon_after(
    street: Street, figure: Callable[[str, float], None]
) -> None:
    street.revoke(street.base)
    final = street.settle()
    figure("taint final to first refusal, heads pushed", street.stops("tainted") - final)
    assert "tainted by model" in street.ask("tainted").json()["error"]["message"]


def test_a_model_whose_attestation_ends_is_refused_soon_after_without_a_block(
    street: Street, figure: Callable[[str, float], None]
) -> None:
    workspace, model_id = street.market.workspace, street.market.models["expiring"]
    (lasting,) = workspace.attestations.attestations_of(model_id)
    ends = _attest(workspace, model_id, "brief", 6)
    workspace.attestations.revoke(workspace.signer("attester"), lasting.id)
    street.settle()
    height = workspace.chain.head().number
    assert street.ask("expiring").status_code == 402
    late = street.stops("expiring") - time.monotonic() + time.time() - ends
    assert workspace.chain.head().number == height
    assert late >= 0
    figure("attestation ended to first refusal, no block", late)
    assert "0 known attesters" in street.ask("expiring").json()["error"]["message"]


def test_a_call_in_flight_finishes_and_its_receipt_names_a_block_at_which_the_model_stood(
    street: Street,
) -> None:
    market = street.market
    begun, done = threading.Event(), []
    revoked_at = 0

    def buy() -> None:
        async def go() -> PaidAnswer:
            nonlocal revoked_at
            async with market.payer() as payer:
                # The deposit makes blocks: only after it are there none until the test makes them.
                await payer.call(CHAT_ROUTE, ask(max_tokens=1000))
                revoked_at = await asyncio.to_thread(street.revoke, market.models[CHAT])
                return await payer.stream(CHAT_ROUTE, ask(max_tokens=1000), lambda _: begun.set())

        done.append(asyncio.run(go()))

    thread = threading.Thread(target=buy)
    thread.start()
    assert begun.wait(60)
    street.settle()
    street.stops(CHAT)
    assert not done, "the call was over before its model was stopped"
    thread.join(120)
    receipt = done[0].signed.receipt
    assert receipt.status == "ok"
    assert receipt.payment.charged > 0
    assert receipt.model.block.number < revoked_at
    at = market.workspace.chain.block_at(receipt.model.block.number)
    assert at.hash == receipt.model.block.hash
    record = market.workspace.records.record(market.models[CHAT], block=at)
    assert record.status.name == "ACTIVE"
    assert street.ask("lasting").status_code == 402


def test_polling_alone_stops_a_revoked_model_in_time(
    tmp_path: Path, figure: Callable[[str, float], None]
) -> None:
    with opened(tmp_path, heads=False) as street:
        assert street.health().json()["heads"] == "polled"
        street.revoke(street.market.models["revoked"])
        final = street.settle()
        figure("revocation final to first refusal, polled", street.stops("revoked") - final)
