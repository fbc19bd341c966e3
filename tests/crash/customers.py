"""Customers who note everything: what they signed, what they sent, and what arrived.

They pay through the official x402 client, unmodified, and keep its state across the node's deaths.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from eth_account import Account
from x402 import x402Client
from x402.http.clients import x402_httpx_transport
from x402.http.clients.httpx import PaymentError
from x402.mechanisms.evm.batch_settlement.client.scheme import BatchSettlementEvmScheme
from x402.mechanisms.evm.exact.client import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC

from inference.payments.channel import DepositPayment, parse_batch_payload
from inference.payments.exact import SCHEME as EXACT
from inference.payments.exact import parse_authorization
from inference.receipts import SignedReceipt
from registry.signing.signer import ANVIL_CHAIN_ID, Signer
from tests.crash.world import MODEL, Node, World

PATH: Final = "/v1/chat/completions"
_TIMEOUT_S: Final = 60.0


@dataclass
class Attempt:
    """One request. `outcome` is answered, refused (whole, but no success) or lost.

    `told` is the PAYMENT-RESPONSE of whatever arrived; `received` are the answer's bytes before
    the event that carries a stream's receipt.
    """

    sent: bytes
    stream: bool
    outcome: str = "lost"
    status: int = 0
    why: str = ""
    told: dict[str, Any] = field(default_factory=dict)
    received: bytes = b""
    signed: SignedReceipt | None = None


@dataclass(frozen=True)
class Authorized:
    """An authorisation that a customer signed and sent; `channel` is 0x… for a deposit."""

    payer: str
    nonce: str
    amount: int
    channel: str


class Customer:
    """One wallet that pays by one scheme; several calls at once share its channel."""

    def __init__(self, name: str, world: World, scheme: str, at_once: int = 1) -> None:
        self.name: Final = name
        self.scheme: Final = scheme
        self.at_once: Final = at_once
        # A throw-away key, the same in every run.
        self.signer: Final = Signer(name.encode().rjust(32, b"\x07"))
        self.attempts: Final[list[Attempt]] = []
        self.ceilings: Final[dict[str, set[int]]] = defaultdict(set)
        self.authorized: Final[dict[str, Authorized]] = {}
        self.refunds = 0
        self._world: Final = world
        self._collector: Final = world.settings.registry.contracts.deposit_collector
        wallet = EthAccountSignerWithRPC(
            Account.from_key(self.signer.secret()), world.devnet.rpc_url
        )
        self._channels: Final = BatchSettlementEvmScheme(wallet)
        chosen = ExactEvmScheme(wallet) if scheme == EXACT else self._channels
        client = x402Client().register(f"eip155:{ANVIL_CHAIN_ID}", chosen)
        client.set_spend_controls({"allowed_assets": True})
        self._http: Final = httpx.AsyncClient(
            transport=x402_httpx_transport(client, _Recorder(self)), timeout=_TIMEOUT_S
        )
        world.fund(self.signer)

    async def close(self) -> None:
        await self._http.aclose()

    async def buy(self, *, stream: bool = False, tokens: int = 12) -> Attempt:
        """Ask once; however it ends is noted."""
        text = f"{self.name} asks {len(self.attempts)}"
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": stream,
        }
        attempt = Attempt(json.dumps(body).encode(), stream)
        self.attempts.append(attempt)
        headers = {"content-type": "application/json"}
        try:
            async with self._http.stream(
                "POST", self._world.url + PATH, content=attempt.sent, headers=headers
            ) as answer:
                attempt.status = answer.status_code
                if told := answer.headers.get("PAYMENT-RESPONSE"):
                    attempt.told = json.loads(base64.b64decode(told))
                async for piece in answer.aiter_bytes():
                    attempt.received += piece
        except (httpx.HTTPError, PaymentError) as error:
            attempt.why = repr(error)
            return attempt
        if attempt.status == 200:
            _open(attempt)
        else:
            attempt.outcome, attempt.why = "refused", attempt.received.decode()[:300]
        return attempt

    async def refund(self) -> None:
        """Take back what is left, and begin anew; whether it worked is told by the chain."""
        self.refunds += 1
        # The official client raises a bare RuntimeError for each refusal.
        with contextlib.suppress(httpx.HTTPError, RuntimeError, ValueError):
            await asyncio.to_thread(self._channels.refund, self._world.url + PATH)

    def note_payment(self, header: str) -> None:
        """Note what a payment that leaves this customer promises."""
        payment = json.loads(base64.b64decode(header))["payload"]
        if self.scheme == EXACT:
            signed = parse_authorization(payment)
            self._note(signed.nonce, signed.value, "")
            return
        batch = parse_batch_payload(payment)
        channel = f"0x{batch.voucher.channel_id.hex()}"
        self.ceilings[channel].add(batch.voucher.max_claimable)
        if isinstance(batch, DepositPayment):
            nonce = batch.authorization(self._collector).nonce
            self._note(nonce, batch.amount, channel)

    def _note(self, nonce: bytes, amount: int, channel: str) -> None:
        name = f"0x{nonce.hex()}"
        self.authorized[name] = Authorized(self.signer.address, name, amount, channel)


class _Recorder(httpx.AsyncBaseTransport):
    """Stands below the official client and notes each payment before its bytes leave."""

    def __init__(self, customer: Customer) -> None:
        self._customer: Final = customer
        # The official client never closes the answer that corrects it: no pool may run dry.
        self._below: Final = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if header := request.headers.get("PAYMENT-SIGNATURE"):
            self._customer.note_payment(header)
        return await self._below.handle_async_request(request)

    async def aclose(self) -> None:
        await self._below.aclose()


def _open(attempt: Attempt) -> None:
    """Take the receipt out of a success; a stream without its last event was lost midway."""
    if not attempt.stream:
        bundle = attempt.told["extensions"]["weightproof"]
    else:
        events = attempt.received.split(b"\n\n")
        carried = [e for e in events if b'"weightproof"' in e]
        if not carried:
            return
        bundle = json.loads(carried[0].removeprefix(b"data: "))["weightproof"]
        attempt.received = attempt.received[: attempt.received.index(carried[0])]
    attempt.signed = SignedReceipt.from_json(bundle)
    attempt.outcome = "answered"


async def rush(
    customers: list[Customer], node: Node, *, streams: int = 3, calls: int = 1000
) -> None:
    """Have all customers buy at once until the node is gone, or each made `calls` calls.

    Of a channel's calls every `streams`-th is a stream; a refund comes after every twelfth.
    """

    async def lane(customer: Customer, first: int) -> None:
        for number in range(first, calls):
            if node.gone.is_set():
                return
            attempt = await customer.buy(stream=number % streams == 1)
            if attempt.outcome == "lost" and node.gone.wait(0.2):
                return
            if customer.scheme != EXACT and customer.at_once == 1 and number % 12 == 11:
                await customer.refund()

    lanes = [lane(customer, n) for customer in customers for n in range(customer.at_once)]
    await asyncio.gather(*lanes)
