"""Heads are pushed, and whatever pushes them can do no more than wake their reader."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from registry.chain.devnet import Devnet
from registry.chain.heads import MAX_MESSAGE_BYTES, Heads
from registry.errors import ConfigError
from tests.fakes.head_server import head, head_server, subscribed


class Woken:
    """Counts what wakes it."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@asynccontextmanager
async def following(heads: Heads) -> AsyncIterator[Woken]:
    woken = Woken()
    task = asyncio.create_task(heads.follow(woken))
    try:
        yield woken
        assert not task.done(), "it must never end by itself"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:1", "ws://", "ws://[", "ws://h:port/hush"])
def test_another_address_than_a_web_sockets_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Heads(url)
    assert "hush" not in str(caught.value)


def test_the_secret_part_of_an_address_is_never_shown_nor_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refuse(socket: ServerConnection) -> None:
        await socket.close()

    async def watch() -> None:
        async with head_server(refuse) as url:
            heads = Heads(f"{url}/v3/hush")
            assert "hush" not in repr(heads)
            async with following(heads):
                await asyncio.sleep(0.3)
        async with following(Heads(f"{url}/v3/hush")):
            await asyncio.sleep(0.1)

    with caplog.at_level(logging.DEBUG):
        # The server of this test logs what it is asked; what the reader logs is looked at.
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
        asyncio.run(watch())
    assert "hush" not in caplog.text


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[" * 50_000,
        "[]",
        "null",
        "1",
        '"0xa"',
        "{}",
        '{"id": 1, "error": {"code": -32601, "message": "method not found"}}',
        '{"id": 1, "result": null}',
        '{"id": 2, "result": "0xa"}',
        b"\xff",
        "x" * (MAX_MESSAGE_BYTES + 1),
    ],
)
def test_an_endpoint_that_answers_wrongly_pushes_nothing_and_harms_nothing(
    message: str | bytes,
) -> None:
    answered = []

    async def answer(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(message)
        answered.append(message)
        await socket.wait_closed()

    async def watch() -> None:
        async with head_server(answer) as url:
            heads = Heads(url)
            async with following(heads) as woken:
                await until(lambda: answered)
                await asyncio.sleep(0.1)
                assert not heads.pushed
                assert woken.times == 0

    asyncio.run(watch())


@pytest.mark.parametrize(
    "message",
    ["not json", "{}", "[]", head("0xb"), '{"params": 1}', '{"params": {"subscription": {}}}'],
)
def test_what_is_no_head_of_the_subscription_wakes_nobody(message: str) -> None:
    async def push(socket: ServerConnection) -> None:
        await subscribed(socket)
        await socket.send(message)
        await socket.send(head())
        await socket.wait_closed()

    async def watch() -> None:
        async with head_server(push) as url:
            heads = Heads(url)
            async with following(heads) as woken:
                await until(lambda: woken.times >= 2)
                await asyncio.sleep(0.1)
                assert woken.times == 2  # once when the subscription began, once for the head
                assert heads.pushed

    asyncio.run(watch())


def test_a_message_larger_than_any_head_ends_the_connection() -> None:
    connections = 0

    async def push(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await subscribed(socket)
        if connections == 1:
            await socket.send("x" * (MAX_MESSAGE_BYTES + 1))
        await socket.wait_closed()

    async def watch() -> None:
        async with head_server(push) as url:
            heads = Heads(url)
            async with following(heads):
                await until(lambda: connections == 2 and heads.pushed)

    asyncio.run(watch())


def test_an_endpoint_that_says_nothing_is_given_up_in_time_and_tried_again() -> None:
    connections = 0

    async def silent(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await socket.wait_closed()

    async def watch() -> None:
        async with head_server(silent) as url:
            heads = Heads(url, timeout_s=0.2)
            async with following(heads) as woken:
                await until(lambda: connections >= 2)
                assert not heads.pushed
                assert woken.times == 0

    asyncio.run(watch())


def test_an_endpoint_that_opens_and_closes_is_not_asked_in_a_loop() -> None:
    connections = 0

    async def close(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await subscribed(socket)
        await socket.close()

    async def watch() -> None:
        async with head_server(close) as url, following(Heads(url)):
            await asyncio.sleep(2)
            assert 1 <= connections <= 3

    asyncio.run(watch())


def test_a_redirection_is_not_followed() -> None:
    elsewhere = 0

    async def count(socket: ServerConnection) -> None:
        nonlocal elsewhere
        elsewhere += 1

    async def watch() -> None:
        async with head_server(count) as target:

            def redirect(socket: ServerConnection, _: Any) -> Any:
                answer = socket.respond(HTTPStatus.FOUND, "")
                answer.headers["Location"] = target
                return answer

            sending = head_server(count, process_request=redirect)
            async with sending as url, following(Heads(url)):
                await asyncio.sleep(1)
        assert elsewhere == 0

    asyncio.run(watch())


def test_anvil_pushes_its_heads_and_a_lost_connection_is_made_again(devnet: Devnet) -> None:
    async def watch() -> None:
        with Devnet.start() as net:
            port = net.port
            heads = Heads(net.rpc_url.replace("http", "ws"))
            async with following(heads) as woken:
                await until(lambda: heads.pushed)
                before = woken.times
                await asyncio.to_thread(net.mine, 3)
                await until(lambda: woken.times >= before + 1)
                await asyncio.to_thread(net.stop)
                await until(lambda: not heads.pushed)
                with await asyncio.to_thread(lambda: Devnet.start(port=port)) as again:
                    await until(lambda: heads.pushed)
                    before = woken.times
                    await asyncio.to_thread(again.mine)
                    await until(lambda: woken.times == before + 1)

    asyncio.run(watch())
