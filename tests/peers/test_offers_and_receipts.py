"""What a node states beside its own receipt, judged by npm `@x402/extensions`."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers.clients import CLIENTS, Customer, script
from tests.peers.counter import MODEL, QUOTE, Counter, goods, opened_counter

pytestmark = pytest.mark.peer
ROUTES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello"}]},
    "/v1/completions": {"prompt": "Hello"},
    "/v1/classify": {"input": "Hello"},
    "/v1/embeddings": {"input": "Hello"},
}


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    with opened_counter(tmp_path_factory.mktemp("counter")) as counter:
        yield counter


def judged(*tasks: dict[str, Any]) -> list[Any]:
    found: list[Any] = script("verify.mjs", list(tasks))
    return found


@pytest.mark.parametrize("scheme", ["batch-settlement", "exact"])
def test_the_standard_offers_and_receipt_are_the_nodes(counter: Counter, scheme: str) -> None:
    customer = Customer(counter.url, counter.rpc_url, counter.wallet(), scheme)
    counter.heard()
    CLIENTS["httpx"](customer, [goods(7)])
    asked, paid = counter.heard()
    (found,) = judged(
        {"required": asked.required, "settled": paid.settled, "payer": customer.signer.address}
    )
    assert found["signers"] == [counter.shop.address] * 2
    assert found["accepts"] == [0, 1]
    receipt = found["receipt"]
    assert receipt["signer"] == counter.shop.address
    assert receipt["matches"] == [True, True]
    assert receipt["payload"]["payer"] == customer.signer.address
    assert paid.settled is not None
    assert receipt["payload"]["transaction"] == paid.settled["transaction"]


def test_an_offer_ends_no_sooner_than_its_authorisation_may_take(counter: Counter) -> None:
    with counter.shop.http() as client:
        client.post(counter.url, json=goods())
    (asked,) = counter.heard()[-1:]
    assert asked.required is not None
    for entry, offer in zip(
        asked.required["accepts"],
        asked.required["extensions"]["offer-receipt"]["info"]["offers"],
        strict=True,
    ):
        assert offer["payload"]["amount"] == entry["amount"] == str(QUOTE)
        left = offer["payload"]["validUntil"] - time.time()
        assert left > entry["maxTimeoutSeconds"] - 5


def test_what_is_shown_for_refunds_is_no_offer_to_serve_for_nothing(counter: Counter) -> None:
    with counter.shop.http() as client:
        client.get("/v1/classify")
    (asked,) = counter.heard()[-1:]
    assert asked.required is not None
    assert [entry["amount"] for entry in asked.required["accepts"]] == ["0", "0"]
    assert "offer-receipt" not in asked.required["extensions"]


def test_a_changed_offer_or_receipt_is_not_the_nodes(counter: Counter) -> None:
    customer = Customer(counter.url, counter.rpc_url, counter.wallet())
    counter.heard()
    CLIENTS["httpx"](customer, [goods(7)])
    asked, paid = counter.heard()
    changed = copy.deepcopy({"required": asked.required, "settled": paid.settled})
    for offer in changed["required"]["extensions"]["offer-receipt"]["info"]["offers"]:  # type: ignore[index]
        offer["payload"]["amount"] = "1"
    receipt = changed["settled"]["extensions"]["offer-receipt"]["info"]["receipt"]  # type: ignore[index]
    receipt["payload"]["resourceUrl"] += "/other"
    (found,) = judged(changed | {"payer": customer.signer.address})
    assert counter.shop.address not in [*found["signers"], found["receipt"]["signer"]]


def test_work_that_failed_has_no_standard_receipt(counter: Counter) -> None:
    customer = Customer(counter.url, counter.rpc_url, counter.wallet())
    (failed,) = CLIENTS["httpx"](customer, [goods(fails="early")])
    assert "offer-receipt" not in failed["settled"]["extensions"]
    assert failed["settled"]["extensions"]["weightproof"]["receipt"]["status"] == "failed"


def test_every_paid_route_can_be_discovered(counter: Counter) -> None:
    tasks: list[dict[str, Any]] = []
    with counter.shop.http() as client:
        counter.heard()
        for path, body in ROUTES.items():
            client.get(path)
            if "chat" in path or "completions" in path:
                client.post(path, json={"model": MODEL, **body})
        tasks = [{"required": one.required} for one in counter.heard()]
    assert len(tasks) == 6
    for task, found in zip(tasks, judged(*tasks), strict=True):
        shown = found["bazaar"]
        assert shown["shape"] == {"valid": True}
        assert shown["spec"] == {"valid": True}
        assert found["serviceName"]
        url = task["required"]["resource"]["url"]
        path = next(path for path in ROUTES if url.endswith(path))
        assert shown["info"]["input"]["method"] == "POST"
        # What is shown is a request that the route takes.
        assert shown["info"]["input"]["body"].keys() >= {"model", *ROUTES[path]}
        assert len(str(task["required"])) < 6000


def test_the_request_that_discovery_shows_is_one_the_route_sells(counter: Counter) -> None:
    with counter.shop.http() as client:
        for path in ("/v1/chat/completions", "/v1/completions"):
            counter.heard()
            client.get(path)
            (shown,) = counter.heard()
            assert shown.required is not None
            body = shown.required["extensions"]["bazaar"]["info"]["input"]["body"]
            assert body["model"] == MODEL
            assert client.post(path, json=body).status_code == 402
