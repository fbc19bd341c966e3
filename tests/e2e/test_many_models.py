"""Many models on one node: loaded, swapped and unloaded under traffic, by the operator's word."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from inference.api.app import _paid
from inference.api.chat import ChatWork
from inference.api.chat_body import ChatRequest
from inference.catalog import Catalog, CatalogEntry
from inference.client import CHAT as CHAT_ROUTE
from inference.errors import RequestError, UnavailableError
from inference.node import Node
from inference.operator import Command, ModelRefusedError, OperatorRefusedError
from inference.operator_client import OperatorClient
from inference.receipt_format import PriceFacts
from registry.chain.dev_usd import balance
from registry.errors import ConfigError
from registry.signing.signer import Signer
from tests.e2e.market import CLASSIFY_PATH, EXACT_PRICE, PRICE, ask
from tests.e2e.payments import exact
from tests.e2e.shop import Shop, opened
from tests.inference import tiny_models

MODELS = "/admin/models"
# Routes whose models are found changed: before the first piece, after the last one.
EARLY = "/v1/early/completions"
LATE = "/v1/late/completions"


class ChangedWork(ChatWork):
    """A chat whose model is found changed at a chosen moment of it."""

    catalog: Catalog
    moment: str

    async def perform(self) -> AsyncGenerator[bytes, None]:
        if self.moment == EARLY:
            self.catalog.stop(self._entry, "tensor x changed in memory", tampered=True)
        async for piece in super().perform():
            yield piece
        if self.moment == LATE:
            self.catalog.stop(self._entry, "tensor x changed in memory", tampered=True)


def add_routes(app: FastAPI, node: Node) -> None:
    for path in (EARLY, LATE):
        kind = type("Work", (ChangedWork,), {"catalog": node.catalog, "moment": path})

        async def prepare(entry: CatalogEntry, ask: ChatRequest, kind: Any = kind) -> ChatWork:
            work: ChatWork = kind(entry, entry.engine, ask)
            return work

        _paid(app, node, path, "chat", ChatRequest, prepare)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(tmp_path_factory.mktemp("shop"), add=add_routes) as shop:
        yield shop


@pytest.fixture(scope="module")
def old(shop: Shop) -> bytes:
    return shop.publish(tiny_models.llama(shop.config.parent / "old", context=2048))


@pytest.fixture(scope="module")
def new(shop: Shop) -> bytes:
    return shop.publish(tiny_models.llama(shop.config.parent / "new", context=1024))


@pytest.fixture(scope="module")
def labels(shop: Shop) -> bytes:
    return shop.publish(tiny_models.bert_classifier(shop.config.parent / "labels"), "classify")


@pytest.fixture(autouse=True)
def _empty(shop: Shop) -> Iterator[None]:
    """Begin and end with nothing on sale, nothing in memory and no call in flight."""
    yield
    for entry in shop.node.catalog:
        shop.node.stock.unload(entry.name)
    shop.node.stock.settle()
    assert shop.node.catalog.held() == ()
    assert shop.node.stock.used() == 0


def chat(name: str, text: str = "Hello", **more: Any) -> dict[str, Any]:
    return ask(text, **more) | {"model": name}


def names(shop: Shop) -> list[str]:
    with shop.http() as client:
        return [model["id"] for model in client.get("/v1/models").json()["data"]]


@dataclass
class Slow:
    """A stream whose model makes no more tokens until it is read on."""

    pieces: AsyncIterator[bytes]
    go_on: threading.Event

    async def rest(self) -> list[dict[str, Any]]:
        """Return the events that are left."""
        self.go_on.set()
        data = b"".join([piece async for piece in self.pieces])
        lines = [line for line in data.split(b"\n\n") if line and line != b"data: [DONE]"]
        return [json.loads(line[line.index(b"{") :]) for line in lines]


@asynccontextmanager
async def streaming(shop: Shop, name: str) -> AsyncIterator[Slow]:
    """Begin a long answer and hear its first piece."""
    engine, go_on = shop.node.catalog.get(name).engine, threading.Event()
    async with shop.payer() as wallet:
        sent = chat(name, "go on and on", max_tokens=1000, stream=True)
        try:
            async with wallet._http.stream("POST", CHAT_ROUTE, json=sent) as response:
                assert response.status_code == 200, await response.aread()
                pieces = response.aiter_bytes()
                await anext(pieces)
                # Stands between two tokens on the thread that makes them.
                engine._worker.call(go_on.wait)
                yield Slow(pieces, go_on)
        finally:
            go_on.set()


def receipt_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    bundle = events[-1]["weightproof"]
    receipt: dict[str, Any] = bundle["receipt"]
    return receipt


# What the operator's routes refuse


@pytest.mark.parametrize(
    ("method", "path"), [("GET", MODELS), ("POST", MODELS), ("DELETE", f"{MODELS}/old")]
)
def test_without_a_signed_command_nothing_is_told_or_done(
    shop: Shop, old: bytes, method: str, path: str
) -> None:
    shop.place("old", old)
    body = {"name": "b", "id": "0x" + old.hex(), "price": PRICE}
    with shop.http() as client:
        answer = client.request(method, path, json=body)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Weightproof"
    assert answer.json()["error"]["code"] == "operator_refused"
    assert names(shop) == ["old"]


def test_a_command_by_another_key_is_refused(shop: Shop, old: bytes) -> None:
    with shop.operator(Signer.random()) as stranger:
        for order in (
            stranger.models,
            lambda: stranger.load("old", old, PRICE),
            lambda: stranger.unload("old"),
        ):
            with pytest.raises(OperatorRefusedError, match="not a command of the node's operator"):
                order()
    assert names(shop) == []


def test_a_command_that_was_heard_is_worth_nothing_again(shop: Shop, old: bytes) -> None:
    shop.place("old", old)
    command = Command(
        action="unload",
        path=f"{MODELS}/old",
        body=b"",
        session=shop.node.operator.session,
        nonce=bytes(32),
        deadline=int(time.time()) + 30,
    )
    signed = command.signed(shop.workspace.signer("node"), shop.node.operator.domain)
    headers = {"Authorization": signed}
    with shop.http() as client:
        # For another path, method, query or body it is not this command.
        for method, path in (
            ("DELETE", f"{MODELS}/other"),
            ("GET", MODELS),
            ("POST", MODELS),
            ("DELETE", f"{MODELS}/old?now=1"),
        ):
            assert client.request(method, path, headers=headers).status_code == 401
        longer = client.request("DELETE", f"{MODELS}/old", headers=headers, content=b" ")
        assert longer.status_code == 401
        assert client.delete(f"{MODELS}/old", headers=headers).status_code == 200
        shop.place("old", old)
        again = client.delete(f"{MODELS}/old", headers=headers)
    assert again.status_code == 401
    assert "given before" in again.json()["error"]["message"]
    assert names(shop) == ["old"]


def test_a_body_that_is_too_large_or_is_no_order_is_refused(shop: Shop, old: bytes) -> None:
    with shop.http() as client:
        assert client.post(MODELS, content=b" " * (16 * 1024 + 1)).status_code == 413
    with shop.operator() as operator:
        for change, word in (
            ({"name": ""}, "name"),
            ({"name": "tab\there"}, "name"),
            ({"name": "ü"}, "name"),
            ({"id": "0x12"}, "id"),
            ({"price": {"per_call": -1}}, "price.per_call"),
            ({"price": {"per_call": 0}}, "a price of 0"),
            ({"price": {"per_cal": 1}}, "price.per_cal"),
            ({"exact_price": {"per_call": 0}}, "a price of 0"),
            ({"exact_price": 7}, "exact_price"),
            ({"folder": "models/old"}, "not an absolute path"),
            ({"folder": "/models/\0"}, "not an absolute path"),
            ({"path": "/x"}, "path"),
        ):
            body = {"name": "b", "id": "0x" + old.hex(), "price": PRICE} | change
            with pytest.raises(ConfigError, match=word):
                operator._order("load", "POST", MODELS, json.dumps(body).encode())
    assert names(shop) == []


def test_a_name_that_reads_as_a_model_id_is_refused(shop: Shop, old: bytes, new: bytes) -> None:
    with pytest.raises(ConfigError, match="cannot begin with 0x"):
        shop.place("0x" + new.hex(), old)


def test_only_the_named_operator_commands_a_node_that_names_one(tmp_path: Path) -> None:
    operator = Signer.random()
    with opened(tmp_path, f'operator = "{operator.address.lower()}"') as shop:
        with (
            shop.operator() as node,
            pytest.raises(OperatorRefusedError, match="not a command of the node's operator"),
        ):
            node.models()
        with shop.operator(operator) as client:
            assert client.models()["models"] == []


def test_a_node_that_passes_for_another_gets_no_signature(shop: Shop) -> None:
    key = shop.workspace.signer("node")
    stranger = OperatorClient(shop.url, signer=key, chain_id=31337, node=Signer.random().address)
    with stranger as client, pytest.raises(ConfigError, match="the node is"):
        client.models()


# Loads that fail


def test_a_load_that_fails_leaves_everything_as_it_was(
    shop: Shop, old: bytes, labels: bytes, tmp_path: Path
) -> None:
    shop.place("labels", labels)
    folder = Path(shutil.copytree(shop.config.parent / "old", tmp_path / "old"))
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with shop.http() as client:
        shown = client.get("/v1/models").json()
    used, seen = shop.node.stock.used(), len(shop.entries("incident"))
    with pytest.raises(ModelRefusedError, match=r"model\.safetensors"):
        shop.place("old", old, folder=str(folder))
    with shop.http() as client:
        assert client.get("/v1/models").json() == shown
    assert shop.node.stock.used() == used
    with shop.operator() as operator:
        failure = operator.models()["failure"]
    assert failure["name"] == "old"
    assert "model.safetensors" in failure["message"]
    (incident,) = shop.entries("incident")[seen:]
    assert incident["incident"] == "load refused"
    assert incident["subject"] == "0x" + old.hex()
    assert "model.safetensors" in incident["detail"]
    assert str(tmp_path) not in incident["detail"]
    # The others serve, and the name is free for the good files.
    body = {"model": "labels", "input": "fine"}
    assert shop.call(body, CLASSIFY_PATH, scheme="exact").signed.receipt.status == "ok"
    assert shop.place("old", old)["replaced"] == ""


def test_a_swap_that_fails_leaves_the_old_model_on_sale(shop: Shop, old: bytes) -> None:
    shop.place("one", old)
    before = shop.node.catalog.get("one")
    with pytest.raises(ModelRefusedError, match="there is no record"):
        shop.place("one", bytes(32))
    assert shop.node.catalog.get("one") is before
    assert shop.call(chat("one")).signed.receipt.model.model_id == old


def test_the_operators_folder_is_not_told_to_the_world(shop: Shop, old: bytes) -> None:
    seen = len(shop.entries("incident"))
    with pytest.raises(ModelRefusedError, match="/nowhere/secret"):
        shop.place("old", old, folder="/nowhere/secret")
    assert "secret" not in json.dumps(shop.entries("incident")[seen:])


def test_a_second_load_is_refused_while_one_is_under_way(
    shop: Shop, old: bytes, new: bytes
) -> None:
    with shop.gate.shut():
        first = threading.Thread(target=shop.place, args=("old", old))
        first.start()
        assert shop.gate.waiting.wait(30)
        with pytest.raises(UnavailableError, match="old is being loaded"):
            shop.place("new", new)
        with shop.operator() as operator:
            assert operator.models()["loading"]["name"] == "old"
    first.join(60)
    assert names(shop) == ["old"]
    with shop.operator() as operator:
        assert operator.models()["loading"] is None


# Traffic


def test_calls_are_answered_while_a_load_is_under_way(
    shop: Shop, old: bytes, labels: bytes
) -> None:
    shop.place("old", old)
    with shop.gate.shut():
        loading = threading.Thread(target=shop.place, args=("labels", labels))
        loading.start()
        assert shop.gate.waiting.wait(30)
        for number in range(3):
            assert shop.call(chat("old", f"call {number}")).signed.receipt.status == "ok"
        with shop.http() as client:
            assert client.get("/healthz").status_code == 200
            # Not on sale before all of it is proven.
            unknown = client.post(CLASSIFY_PATH, json={"model": "labels", "input": "x"})
            assert unknown.status_code == 404
        assert loading.is_alive()
    loading.join(60)
    assert names(shop) == ["old", "labels"]


def test_a_call_under_way_at_a_swap_ends_on_the_model_it_began_with(
    shop: Shop, old: bytes, new: bytes
) -> None:
    shop.place("one", old)
    shop.call(chat("one", "open the channel"))

    async def go() -> list[dict[str, Any]]:
        async with streaming(shop, "one") as slow:
            placed = await asyncio.to_thread(shop.place, "one", new)
            assert placed["replaced"] == "0x" + old.hex()
            # The next call by name is the new one's; nobody answers for the old id any more.
            answer = await asyncio.to_thread(shop.call, chat("one", "and now?"), scheme="exact")
            assert answer.signed.receipt.model.model_id == new
            with shop.http() as client:
                by_id = client.post(CHAT_ROUTE, json=chat("0x" + old.hex()))
            assert by_id.status_code == 404
            with shop.operator() as operator:
                rows = {row["model_id"]: row for row in operator.models()["models"]}
            leaving = rows["0x" + old.hex()]
            assert (leaving["state"], leaving["leases"]) == ("leaving", 1)
            assert rows["0x" + new.hex()]["state"] == "on sale"
            return await slow.rest()

    receipt = receipt_of(asyncio.run(go()))
    assert receipt["status"] == "ok"
    assert receipt["model"]["modelId"] == "0x" + old.hex()
    assert int(receipt["payment"]["charged"]) > PRICE["per_call"]
    shop.node.stock.settle()
    assert [entry.verified.model_id for entry in shop.node.catalog.held()] == [new]


def test_exact_answers_are_sold_at_the_price_that_the_operator_gave_them(
    shop: Shop, old: bytes
) -> None:
    shop.place("one", old, exact_price=EXACT_PRICE)
    paid = [shop.call(chat("one", **more)) for more in ({}, {"determinism": "exact"})]
    prices = [answer.signed.receipt.payment.price for answer in paid]
    assert prices == [PriceFacts(**PRICE), PriceFacts(**EXACT_PRICE)]
    # Both were quoted at their own price, or their receipts would not hold.
    assert paid[0].charged < paid[1].charged <= paid[1].signed.receipt.payment.quote


def test_a_payer_quoted_before_a_swap_is_asked_again_at_the_new_price(
    shop: Shop, old: bytes, new: bytes
) -> None:
    shop.place("one", old)
    with shop.http() as client:
        body = chat("one")
        demanded = client.post(CHAT_ROUTE, json=body).headers["PAYMENT-REQUIRED"]
        accepted = offer_of(demanded)
        shop.place("one", new, price=PRICE | {"per_call": 500})
        payment = exact(accepted, shop.workspace.signer("payer"))
        refused = client.post(CHAT_ROUTE, json=body, headers=payment)
    assert refused.status_code == 402
    assert int(offer_of(refused.headers["PAYMENT-REQUIRED"])["amount"]) > int(accepted["amount"])


def offer_of(header: str) -> dict[str, Any]:
    accepts = json.loads(base64.b64decode(header))["accepts"]
    return next(dict(entry) for entry in accepts if entry["scheme"] == "exact")


def test_a_model_unloaded_under_a_call_goes_when_the_call_has_ended(shop: Shop, old: bytes) -> None:
    shop.place("one", old)

    async def go() -> list[dict[str, Any]]:
        async with streaming(shop, "one") as slow:
            with shop.operator() as operator:
                unloaded = await asyncio.to_thread(operator.unload, "one")
            assert unloaded["leases"] == 1
            assert names(shop) == []
            with shop.http() as client:
                assert client.post(CHAT_ROUTE, json=chat("one")).status_code == 404
            (entry,) = shop.node.catalog.held()
            assert entry.loaded.resident.changed() is None
            return await slow.rest()

    receipt = receipt_of(asyncio.run(go()))
    assert receipt["status"] == "ok"
    assert int(receipt["payment"]["charged"]) > PRICE["per_call"]
    shop.node.stock.settle()
    assert shop.node.catalog.held() == ()


def test_a_reader_that_leaves_gives_its_lease_back(shop: Shop, old: bytes) -> None:
    shop.place("one", old)

    async def go() -> None:
        async with streaming(shop, "one"):
            assert shop.node.catalog.standing(shop.node.catalog.get("one")).leases == 1

    asyncio.run(go())
    standing = shop.node.catalog.standing(shop.node.catalog.get("one"))
    deadline = time.monotonic() + 30
    while standing.leases and time.monotonic() < deadline:
        time.sleep(0.1)
        standing = shop.node.catalog.standing(shop.node.catalog.get("one"))
    assert standing.leases == 0
    assert shop.receipts()[-1]["status"] == "partial"
    assert standing.paid_at > 0


def test_whatever_a_call_ends_in_its_lease_ends_too(shop: Shop, old: bytes) -> None:
    shop.place("one", old)
    with shop.http() as client:
        for body, headers in (
            (chat("one"), {}),
            (chat("one", max_tokens=10**6), {}),
            (chat("one"), {"PAYMENT-SIGNATURE": "not base64!"}),
        ):
            assert client.post(CHAT_ROUTE, json=body, headers=headers).status_code >= 400
    shop.call(chat("one"))
    shop.call(chat("one"), scheme="exact")
    assert shop.node.catalog.standing(shop.node.catalog.get("one")).leases == 0


# A model whose weights changed


def test_a_stream_of_a_model_that_was_changed_fails_and_is_not_charged(
    shop: Shop, old: bytes
) -> None:
    shop.place("one", old)
    shop.call(chat("one", "open the channel"))

    async def go() -> list[dict[str, Any]]:
        async with streaming(shop, "one") as slow:
            assert shop.node.catalog.stop("one", "tensor x changed in memory", tampered=True)
            return await slow.rest()

    events = asyncio.run(go())
    receipt = receipt_of(events)
    assert (receipt["status"], receipt["payment"]["charged"]) == ("failed", "0")
    assert any("changed in memory" in str(event.get("error")) for event in events)
    assert receipt["tokens"]["output"] < 1000
    assert shop.receipts()[-1] == receipt
    # What the stream's head booked is the payer's credit: the next call is not charged for it.
    shop.place("one", old)
    after = shop.call(chat("one", "after"))
    told = int(after.settlement["extra"]["chargedAmount"])
    assert told == max(0, after.charged - int(receipt["payment"]["quote"]))


@pytest.mark.parametrize("scheme", ["batch-settlement", "exact"])
def test_an_answer_of_a_model_that_was_changed_is_withheld_and_not_charged(
    shop: Shop, old: bytes, scheme: str
) -> None:
    shop.place("one", old)
    shop.call(chat("one", "open the channel"))
    entry = shop.node.catalog.get("one")
    token = shop.workspace.config.contracts.dev_usd or ""
    before = balance(shop.workspace.chain, token, shop.address)

    def tamper() -> None:
        deadline = time.monotonic() + 30
        while not entry.engine.stats().running and time.monotonic() < deadline:
            time.sleep(0.005)
        shop.node.catalog.stop(entry, "tensor x changed in memory", tampered=True)

    watching = threading.Thread(target=tamper)
    watching.start()
    with pytest.raises(RequestError, match="changed in memory; nothing was charged"):
        shop.call(chat("one", "long", max_tokens=1000), scheme=scheme)
    watching.join(60)
    receipt = shop.receipts()[-1]
    assert (receipt["status"], receipt["payment"]["charged"]) == ("failed", "0")
    assert receipt["payment"]["scheme"] == scheme
    assert balance(shop.workspace.chain, token, shop.address) == before
    # The same wallet pays the next call, and nothing of the failed one.
    shop.place("one", old)
    after = shop.call(chat("one", "after"), scheme=scheme)
    assert after.signed.receipt.status == "ok"
    assert after.signed.receipt.payment.cumulative >= after.charged


def spend_credit(shop: Shop) -> None:
    """Open the channel, and use up what earlier streams left in it."""
    for _ in range(100):
        answer = shop.call(chat("one", "open the channel"))
        if int(answer.settlement["extra"]["chargedAmount"]) == answer.charged:
            return
    raise AssertionError("the credit of earlier streams does not end")


def test_a_stream_that_has_not_begun_when_its_model_changed_is_taken_back(
    shop: Shop, old: bytes
) -> None:
    shop.place("one", old)
    shop.call(chat("one", "open the channel"))
    before = credit(shop, shop.receipts()[-1])
    sent = chat("one", "never", max_tokens=1000, stream=True)
    answer = asyncio.run(post(shop, EARLY, sent))
    assert answer.status_code == 410
    assert "changed in memory" in answer.json()["error"]["message"]
    receipt = shop.receipts()[-1]
    assert (receipt["status"], receipt["payment"]["charged"]) == ("failed", "0")
    # Nobody was told of a charge, so none of it becomes the payer's credit either.
    assert credit(shop, receipt) == before


def test_a_stream_whose_model_changed_as_it_ended_is_not_charged(shop: Shop, old: bytes) -> None:
    shop.place("one", old)
    shop.call(chat("one", "open the channel"))
    answer = asyncio.run(post(shop, LATE, chat("one", "almost", stream=True)))
    lines = [line for line in answer.content.split(b"\n\n") if line.startswith(b"data: {")]
    receipt = receipt_of([json.loads(line[6:]) for line in lines])
    assert receipt["response"]["finish"] in ("stop", "length")
    assert (receipt["status"], receipt["payment"]["charged"]) == ("failed", "0")
    assert shop.receipts()[-1] == receipt


def credit(shop: Shop, receipt: dict[str, Any]) -> int:
    """Return what the payer of a receipt has paid on its channel and not used."""
    ledger, channel = shop.node.cashier.ledger, receipt["payment"]["channel"]
    account = shop.node.database.read(lambda tx: ledger.account(tx, channel))
    assert account is not None
    return account.credit


async def post(shop: Shop, path: str, body: dict[str, Any]) -> httpx.Response:
    async with shop.payer() as wallet:
        answer: httpx.Response = await wallet._http.post(path, json=body)
        return answer


def test_a_call_in_flight_of_a_revoked_model_finishes_and_is_charged(
    shop: Shop, old: bytes
) -> None:
    shop.place("one", old)

    async def go() -> list[dict[str, Any]]:
        async with streaming(shop, "one") as slow:
            assert shop.node.catalog.stop("one", "it was revoked")
            with shop.http() as client:
                refused = client.post(CHAT_ROUTE, json=chat("one"))
            assert refused.status_code == 410
            assert "PAYMENT-REQUIRED" not in refused.headers
            return await slow.rest()

    receipt = receipt_of(asyncio.run(go()))
    assert receipt["status"] == "ok"
    assert int(receipt["payment"]["charged"]) > PRICE["per_call"]
