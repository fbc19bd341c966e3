"""Direct routes answer as routes do, and go past no middleware that nobody said they may."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from inference.api.body import take_body
from inference.api.cors import open_to_pages
from inference.api.direct import DirectApp, Headers, header
from inference.api.gate import Gate
from inference.api.problems import handle
from inference.errors import NodeError, UnavailableError
from inference.limits import Buckets, Rate

PAGE = {"origin": "https://page.example"}


async def echo(headers: Headers, receive: Receive) -> Response:
    body = await take_body(headers, receive, 100)
    if body == b"refuse":
        raise UnavailableError("not now")
    if body == b"break":
        raise ZeroDivisionError
    return Response(body, headers={"X-Kind": header(headers, b"x-kind") or "none"})


def app(buckets: Buckets | None = None) -> DirectApp:
    made = DirectApp(buckets)
    if buckets is not None:
        made.add_middleware(Gate, buckets=buckets)
    open_to_pages(made)
    made.pass_by()
    made.add_exception_handler(Exception, handle)
    made.add_exception_handler(NodeError, handle)
    made.post_direct("/echo", echo, "echo")
    return made


def ask(to: ASGIApp, method: str = "POST", path: str = "/echo", **more: Any) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(to, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            return await client.request(method, path, **more)

    return asyncio.run(go())


@pytest.mark.parametrize("headers", [{}, PAGE])
@pytest.mark.parametrize(
    ("body", "status"), [(b"refuse", 503), (b"break", 500), (b"x" * 101, 413), (b"hello", 200)]
)
def test_it_answers_the_same_whichever_way_a_request_comes(
    headers: dict[str, str], body: bytes, status: int
) -> None:
    answer = ask(app(), content=body, headers={**headers, "X-Kind": "one"})
    assert answer.status_code == status
    if status == 200:
        assert (answer.content, answer.headers["x-kind"]) == (body, "one")
    else:
        assert "Zero" not in answer.text
        assert answer.json()["error"]["message"]


def test_a_failure_nobody_foresaw_reaches_the_servers_log() -> None:
    async def go() -> None:
        transport = httpx.ASGITransport(app())
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            with pytest.raises(ZeroDivisionError):
                await client.post("/echo", content=b"break")

    asyncio.run(go())


def test_pages_may_read_what_they_ask_for() -> None:
    assert ask(app(), headers=PAGE).headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in ask(app()).headers


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/echo", 405), ("POST", "/no", 404)]
)
def test_other_methods_and_paths_are_the_frameworks(method: str, path: str, status: int) -> None:
    assert ask(app(), method, path).status_code == status


@pytest.mark.parametrize("headers", [{}, PAGE])
def test_each_request_is_counted_once_against_its_address(headers: dict[str, str]) -> None:
    limited = app(Buckets(Rate(per_minute=1, burst=3), "address"))
    statuses = [ask(limited, headers=headers).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]


def test_a_middleware_that_was_added_later_sees_every_request() -> None:
    seen: list[str] = []

    class Listener:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["path"])
            await self.app(scope, receive, send)

    heard = app()
    heard.add_middleware(Listener)
    assert ask(heard, content=b"hello").content == b"hello"
    assert seen == ["/echo"]
