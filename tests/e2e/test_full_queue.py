"""A node whose queue is full says so before anybody pays, and serves again when it is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest

from inference.client import CHAT
from inference.engine.engine import MAX_RUNNING, TextEngine
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest
from tests.e2e.shop import Shop, opened
from tests.inference import tiny_models

# Greedy, so that no draw of an end token makes the answer shorter.
BODY = {
    "model": "busy",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 4,
    "temperature": 0,
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(tmp_path_factory.mktemp("shop"), "max_queue = 1") as shop:
        folder = tiny_models.llama(shop.config.parent / "busy", context=2048)
        shop.place("busy", shop.publish(folder), folder=str(folder))
        yield shop


def ask(shop: Shop) -> httpx.Response:
    with shop.http() as client:
        return client.post(CHAT, json=BODY)


def test_a_full_queue_is_a_429_that_says_when_to_come_again(shop: Shop) -> None:
    engine = shop.node.catalog.get("busy").engine
    assert isinstance(engine, TextEngine)

    async def while_it_is_full() -> httpx.Response:
        ids = []
        for number in range(MAX_RUNNING + 1):
            ids.append(engine.submit(GenerationRequest((1, 2, 3), Sampling(1000))))
            while engine.stats().waiting and number < MAX_RUNNING:
                await asyncio.sleep(0.001)
        refused = await asyncio.to_thread(ask, shop)
        for id in ids:
            engine.cancel(id)
        return refused

    refused = asyncio.run(while_it_is_full())
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json()["error"]["code"] == "queue_full"
    assert shop.receipts() == []
    while engine.stats().running:
        time.sleep(0.005)
    # Whoever comes again is asked to pay, and served.
    assert ask(shop).status_code == 402
    assert shop.call(BODY).signed.receipt.tokens.output == 4
