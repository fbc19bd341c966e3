"""Two nodes behind one address, on one PostgreSQL: one is killed under load, nothing is lost.

What holds for one node that is killed holds for two: no answer that left is uncharged, nothing is
charged twice or above what was signed, no receipt or sequence number is missing, and every voucher
can be claimed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from inference.audit.entry import RECEIPT, parse_entry
from inference.audit_command import run_audit
from inference.client import CHAT as CHAT_ROUTE
from inference.client import NodeIdentity, PaidAnswer, Payer
from inference.config import load
from inference.demo.node_process import NodeProcess
from inference.errors import PaymentRefusedError, UnavailableError
from inference.instances import others
from inference.kept_receipts import find_receipt
from inference.office import Office
from inference.payments import books
from inference.receipts import SignedReceipt, receipt_domain, salted_hash
from registry.chain.dev_usd import ONE, mint
from registry.signing.signer import Signer
from registry.terminal import Terminal
from tests.e2e.balancer import Balancer, balanced
from tests.e2e.market import Market, ask, opened
from tests.postgres import PostgresServer

PAYERS = 4
# Answers in all before the kill, and of each payer after it.
BEFORE, AFTER = 12, 4


@dataclass
class Twins:
    """A market whose node has a twin; `address` leads to both."""

    market: Market
    twin: NodeProcess
    address: Balancer

    @property
    def urls(self) -> tuple[str, str]:
        return self.market.node.url, self.twin.url

    def customer(self, url: str) -> Customer:
        settings, signer = self.market.workspace.config, Signer.random()
        contracts = settings.contracts
        mint(
            self.market.workspace.chain,
            self.market.workspace.signer("publisher"),
            contracts.dev_usd or "",
            signer.address,
            100 * ONE,
        )
        domain = receipt_domain(contracts.chain_id, contracts.audit_anchor)
        return Customer(
            Payer(
                url,
                signer=signer,
                rpc_url=settings.chain.rpc_url,
                network=f"eip155:{contracts.chain_id}",
                node=NodeIdentity(self.twin.address, domain),
            ),
            signer.address,
        )


@dataclass
class Customer:
    """Buys one answer after the other, and remembers what it asked and what it got."""

    payer: Payer
    address: str
    asked: list[bytes] = field(default_factory=list)
    answers: list[PaidAnswer] = field(default_factory=list)

    async def buy(self) -> bool:
        body = ask(f"{self.address} {len(self.asked)}")
        self.asked.append(json.dumps(body).encode())
        try:
            self.answers.append(await self.payer.call(CHAT_ROUTE, body))
        except (UnavailableError, PaymentRefusedError):
            return False
        return True

    async def stream(self, on_text: Any) -> None:
        body = ask(f"{self.address} {len(self.asked)}", max_tokens=64) | {"stream": True}
        self.asked.append(json.dumps(body).encode())
        await self.payer.stream(CHAT_ROUTE, body, on_text)


@pytest.fixture(scope="module")
def twins(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    folder = tmp_path_factory.mktemp("twins")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", postgres.create())
        with (
            opened(folder) as market,
            NodeProcess.start(market.config, log=folder / "twin.log") as twin,
            balanced((market.node.url, twin.url)) as address,
        ):
            yield Twins(market, twin, address)


@pytest.fixture(scope="module")
def office(twins: Twins) -> Iterator[Office]:
    """The durable side of both nodes, as the operator's commands open it."""
    office = Office.open(load(twins.market.config))
    yield office
    office.close()


def kill_in_flight(pid: int, office: Office) -> None:
    """Kill a process while a call of its own is certainly in flight."""

    def flying() -> set[str]:
        return {call.id for _, call in office.database.read(books.all_opened)}

    seen: set[str] = set()
    while not seen:
        os.kill(pid, signal.SIGCONT)
        while not flying():
            pass
        os.kill(pid, signal.SIGSTOP)
        # The other node's calls end meanwhile; what stays belongs to the one that stands still.
        before, deadline = flying(), time.monotonic() + 3
        while before and time.monotonic() < deadline:
            before &= flying()
        seen = before
    os.kill(pid, signal.SIGKILL)


async def load_and_kill(twins: Twins, office: Office) -> list[Customer]:
    """Sell through both nodes, kill one in the middle of a call, and sell on."""
    customers = [twins.customer(twins.address.url) for _ in range(PAYERS)]
    listener = twins.customer(twins.market.node.url)
    warm, dead = asyncio.Event(), asyncio.Event()

    async def shop(customer: Customer) -> None:
        left = AFTER
        while left:
            if not await customer.buy():
                await asyncio.sleep(0.2)  # as a polite client does
            elif dead.is_set():
                left -= 1
            if sum(len(c.answers) for c in customers) >= BEFORE:
                warm.set()

    async def hear() -> None:
        """Streams through the node that will die, one after the other."""
        while not dead.is_set():
            with suppress(UnavailableError, PaymentRefusedError):
                await listener.stream(lambda _: None)

    async def kill() -> None:
        await warm.wait()
        await asyncio.to_thread(kill_in_flight, twins.market.node._process.pid, office)
        dead.set()

    await asyncio.gather(hear(), kill(), *map(shop, customers))
    for customer in (*customers, listener):
        await customer.payer.__aexit__()
    return [*customers, listener]


def test_a_receipt_is_found_at_either_node(twins: Twins) -> None:
    async def go() -> PaidAnswer:
        customer = twins.customer(twins.urls[0])
        assert await customer.buy()
        await customer.payer.__aexit__()
        return customer.answers[0]

    receipt = asyncio.run(go()).signed.receipt
    proofs = []
    for url in twins.urls:
        with httpx.Client(base_url=url) as client:
            found = client.get(f"/v1/receipts/{receipt.id}").json()
            size = client.get("/v1/log").json()["size"]
            where = {"seq": receipt.seq, "size": size}
            proofs.append(client.get("/v1/log/proof/inclusion", params=where).json())
        assert SignedReceipt.from_json(found).receipt == receipt
    assert proofs[0] == proofs[1]


def test_one_of_two_nodes_is_killed_under_load_and_nothing_is_lost(
    twins: Twins, office: Office
) -> None:
    customers = asyncio.run(load_and_kill(twins, office))
    assert all(twins.address.served[url] > BEFORE // 3 for url in twins.urls)
    read = office.database.read

    # The survivor ends what the dead one left: nothing stays in flight, and only it lives.
    while read(lambda tx: len(others(tx, office.database.instance))) > 1:
        pass
    assert read(books.all_opened) == []

    entries = read(lambda tx: office.log.entry_bytes(tx, 0, office.log.size(tx)))
    parsed = [parse_entry(entry) for entry in entries]
    assert [entry.seq for entry in parsed] == list(range(len(entries)))
    logged = {
        signed.receipt.id: signed.receipt
        for signed in (SignedReceipt.from_json(e.body) for e in parsed if e.kind == RECEIPT)
    }

    # Every answer that left was charged, and stands in the log as it was told.
    for answer in (answer for customer in customers for answer in customer.answers):
        assert logged[answer.signed.receipt.id] == answer.signed.receipt
        assert answer.charged > 0

    # Nothing was charged twice, and nothing that nobody asked.
    asked = {customer.address: customer.asked for customer in customers}
    charged: Counter[bytes] = Counter()
    for receipt in logged.values():
        kept = read(lambda tx, id=receipt.id: find_receipt(tx, id))
        assert kept is not None
        assert kept.salts is not None
        assert kept.receipt == receipt
        if receipt.payment.payer in asked and receipt.payment.charged:
            salt = kept.salts.request
            charged.update(
                body
                for body in asked[receipt.payment.payer]
                if salted_hash(salt, body) == receipt.request.hash
            )
    assert set(charged.values()) == {1}
    assert len(charged) >= sum(len(customer.answers) for customer in customers)

    # Each channel was charged what its receipts say, below what its payer signed.
    due: Counter[str] = Counter()
    for receipt in logged.values():
        due["0x" + receipt.payment.channel.hex()] += receipt.payment.charged
    accounts = {account.channel_id: account for account in read(lambda tx: [*books.accounts(tx)])}
    assert due.keys() <= accounts.keys()
    for name, account in accounts.items():
        assert account.charged - account.credit == due[name] <= account.signed_max

    # Every voucher can be claimed, and the whole passes the auditor.
    office.settlement.tick(everything=True)
    channels = office.settlement.channels
    for name in accounts:
        assert channels.state(name, now=0).total_claimed == due[name]
    office.settlement.anchor()
    config = load(twins.market.config)
    report = run_audit(config, twins.twin.url, Terminal(as_json=True), address=twins.twin.address)
    assert report.ok, report.to_json()
