"""A node that sells a metered nothing: each request says what it costs, and how it fails.

Everything but the goods is the node's own: routes, payments, ledger, receipts, log, contracts.
One token is one atomic unit.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.api.app import _paid
from inference.api.schemas import Name, StrictBody
from inference.api.sse import DONE, event
from inference.catalog import CatalogEntry
from inference.errors import GenerationError, NodeError
from inference.node import Node
from inference.payments.pricing import Usage
from inference.payments.x402 import decode_header
from registry.chain.dev_usd import ONE, balance, mint
from registry.signing.signer import Signer
from tests.e2e.shop import Shop, opened
from tests.inference import tiny_models

PATH = "/v1/metered"
MODEL = "meter"
PRICE = {"per_call": 0, "input_per_million": 0, "output_per_million": 1_000_000}
QUOTE = 100


class MeteredRequest(StrictBody):
    """What is bought: up to `limit` units, of which `cost` are used.

    The work waits until `beside` calls that say so are under way, so that they surely meet; a
    stream after its first event.
    """

    model: Name
    cost: int
    limit: int = QUOTE
    stream: bool = False
    fails: Literal["no", "early", "midway"] = "no"
    beside: int = 0


@dataclass
class Meeting:
    """Where calls wait for each other."""

    waiting: list[asyncio.Event] = field(default_factory=list)

    async def of(self, calls: int) -> None:
        """Wait until so many calls are here, this one included; not at all for fewer than two."""
        if calls < 2:
            return
        here = asyncio.Event()
        self.waiting.append(here)
        if len(self.waiting) == calls:
            for event in self.waiting:
                event.set()
            self.waiting.clear()
        await here.wait()


class MeteredWork:
    """Work that takes no time and fails when it is told to."""

    input_tokens = 0
    input_ids: tuple[int, ...] = ()
    sampling = None

    def __init__(self, ask: MeteredRequest, meeting: Meeting) -> None:
        self._ask = ask
        self._meeting = meeting
        self._used = 0
        self.streams = ask.stream
        self.max_output_tokens = ask.limit

    @property
    def usage(self) -> Usage:
        return Usage(0, self._used)

    @property
    def output_ids(self) -> tuple[int, ...]:
        return tuple(range(self._used))

    @property
    def finish(self) -> str:
        return "stop"

    async def perform(self) -> AsyncGenerator[bytes, None]:
        if self._ask.fails == "early":
            raise GenerationError("it was told to fail")
        if not self.streams:
            await self._meeting.of(self._ask.beside)
            self._used = self._ask.cost
            yield json.dumps({"cost": self._used}).encode()
            return
        yield event({"unit": -1})
        await self._meeting.of(self._ask.beside)
        for unit in range(self._ask.cost):
            self._used += 1
            yield event({"unit": unit})
            if self._ask.fails == "midway":
                raise GenerationError("it was told to fail")

    def failing(self, failure: NodeError) -> bytes:
        return event({"error": {"message": failure.message, "code": failure.code}})

    def closing(self, bundle: Mapping[str, object]) -> bytes:
        return event({"weightproof": bundle}) + DONE


@dataclass
class Exchange:
    """One request as the node saw it, and what it answered; of x402's headers the request's as it
    came, the answer's decoded.
    """

    method: str
    status: int
    payment: str
    required: dict[str, Any] | None
    settled: dict[str, Any] | None

    @property
    def said(self) -> tuple[str, int, str]:
        """The method, the status and the x402 code in one line."""
        return self.method, self.status, str((self.required or {}).get("error", ""))


@dataclass
class Wire:
    """Listens to every exchange of the node, oldest first."""

    app: ASGIApp
    exchanges: list[Exchange] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def listen(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = {n.decode().lower(): v.decode() for n, v in scope["headers"]}
                answered = {n.decode().lower(): v.decode() for n, v in message["headers"]}
                self.exchanges.append(
                    Exchange(
                        scope["method"],
                        message["status"],
                        sent.get("payment-signature", ""),
                        *(
                            decode_header(answered[name]) if name in answered else None
                            for name in ("payment-required", "payment-response")
                        ),
                    )
                )
            await send(message)

        await self.app(scope, receive, listen if scope["type"] == "http" else send)


@dataclass
class Counter:
    """The shop, and what was heard at its door."""

    shop: Shop
    wires: list[Wire]

    @property
    def url(self) -> str:
        return self.shop.url + PATH

    @property
    def token(self) -> str:
        address = self.shop.workspace.config.contracts.dev_usd
        assert address is not None
        return address

    @property
    def rpc_url(self) -> str:
        return self.shop.devnet.rpc_url

    def wallet(self, dollars: int = 10) -> Signer:
        """Return a fresh wallet with some dollars."""
        signer = Signer.random()
        self.fund(signer.address, dollars)
        return signer

    def fund(self, address: str, dollars: int = 10) -> None:
        mint(
            self.shop.workspace.chain,
            self.shop.workspace.signer("deployer"),
            self.token,
            address,
            dollars * ONE,
        )

    def balance(self, address: str) -> int:
        return balance(self.shop.workspace.chain, self.token, address)

    def charges(self, payer: str) -> list[tuple[str, int]]:
        """Return status and charge of a payer's receipts in the log, oldest first."""
        return [
            (receipt["status"], int(receipt["payment"]["charged"]))
            for receipt in self.shop.receipts()
            if receipt["payment"]["payer"] == payer
        ]

    def heard(self) -> list[Exchange]:
        """Return what was exchanged since this was last asked."""
        (wire,) = self.wires
        heard, wire.exchanges[:] = list(wire.exchanges), []
        return heard


def goods(cost: int = 10, **more: Any) -> dict[str, Any]:
    """Return the body of a request."""
    return {"model": MODEL, "cost": cost, **more}


@contextmanager
def opened_counter(folder: Path, settings: str = "") -> Iterator[Counter]:
    """Open a counter in `folder`; `settings` are lines for the node's section."""
    wires: list[Wire] = []
    meeting = Meeting()

    def listening(app: ASGIApp) -> Wire:
        wires.append(Wire(app))
        return wires[-1]

    async def prepare(_: CatalogEntry, ask: MeteredRequest) -> MeteredWork:
        return MeteredWork(ask, meeting)

    def add(app: FastAPI, node: Node) -> None:
        _paid(app, node, PATH, "chat", MeteredRequest, prepare)  # type: ignore[type-var]
        app.add_middleware(listening)  # type: ignore[arg-type]  # a factory is as good as a class

    with opened(folder, settings, add=add) as shop:
        model = tiny_models.llama(folder / MODEL, context=2048)
        shop.place(MODEL, shop.publish(model), folder=str(model), price=PRICE)
        yield Counter(shop, wires)
