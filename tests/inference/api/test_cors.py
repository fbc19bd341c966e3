"""Which requests a browser lets a page of another origin make, and what the page may read."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.testclient import TestClient

from inference.api.cors import open_to_pages

PAGE = {"Origin": "https://page.example"}


@pytest.fixture
def browser() -> TestClient:
    app = FastAPI()
    open_to_pages(app)

    async def answer() -> PlainTextResponse:
        return PlainTextResponse("said")

    for path in ("/metrics", "/admin/models", "/v1/classify"):
        app.add_api_route(path, answer, methods=["GET", "POST"])
    return TestClient(app)


@pytest.mark.parametrize("path", ["/metrics", "/admin/models"])
def test_what_this_machine_alone_may_read_no_page_may(browser: TestClient, path: str) -> None:
    answer = browser.get(path, headers=PAGE)
    assert answer.text == "said"
    assert not [name for name in answer.headers if name.startswith("access-control")]
    asked = browser.options(path, headers=PAGE | {"Access-Control-Request-Method": "POST"})
    assert asked.status_code == 405


def test_a_page_may_send_every_header_that_clients_send(browser: TestClient) -> None:
    sent = "payment-signature, sign-in-with-x, access-control-expose-headers, x-stainless-os"
    preflight = PAGE | {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": sent,
    }
    answer = browser.options("/v1/classify", headers=preflight)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    allowed = answer.headers["Access-Control-Allow-Headers"].lower()
    assert all(name.strip() in allowed for name in sent.split(","))
    assert int(answer.headers["Access-Control-Max-Age"]) > 0


def test_a_page_may_read_the_payment_headers(browser: TestClient) -> None:
    answer = browser.post("/v1/classify", headers=PAGE)
    exposed = answer.headers["Access-Control-Expose-Headers"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert {"PAYMENT-REQUIRED", "PAYMENT-RESPONSE"} <= set(exposed.split(", "))
    assert "Access-Control-Allow-Credentials" not in answer.headers
