"""Story c from the payer's side: pay through the official x402 client, check the receipt.

The payment itself is the official package's work (PyPI `x402`, unmodified): it opens and tops up
the channel and signs vouchers. Here the answer's receipt is checked: signed by the node, about the
very bytes that were sent and received, charged by its own price and token counts, as agreed
(`bargain`), and in line with the receipts before it (`passbook`). An answer whose receipt does not
hold is not returned.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import httpx
from eth_account import Account
from x402 import x402Client
from x402.http.clients import x402_httpx_transport
from x402.http.clients.httpx import PaymentError
from x402.mechanisms.evm.batch_settlement.client.config import (
    BatchSettlementDepositStrategyContext,
    BatchSettlementEvmSchemeOptions,
)
from x402.mechanisms.evm.batch_settlement.client.scheme import BatchSettlementEvmScheme
from x402.mechanisms.evm.exact.client import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC
from x402.schemas import PaymentCreationContext

from inference.bargain import Bargain, no_receipt
from inference.coupon import HEADER
from inference.errors import PaymentRefusedError, RequestError, UnavailableError
from inference.heard import Heard, chunk_of, events, first_text
from inference.passbook import Line, Passbook
from inference.payments.x402 import PAYMENT_RESPONSE, decode_header
from inference.receipts import SignedReceipt, verify_receipt
from inference.refunded import asked, check_refund
from registry.chain.connection import Chain
from registry.signing.signer import Signer
from registry.signing.typed_data import Domain

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
CLASSIFY: Final = "/v1/classify"
EMBEDDINGS: Final = "/v1/embeddings"
# Seconds; a slow model on a slow processor may think for minutes.
_TIMEOUT_S: Final = 600.0
_JSON: Final = {"content-type": "application/json"}

# The call that a payment is made for: httpx asks for payments in the task of the call.
_BARGAIN: Final[ContextVar[Bargain]] = ContextVar("bargain")
# Asked before money goes into a channel: told the amount in atomic units; False stops the call.
Confirm = Callable[[int], bool]


@dataclass(frozen=True)
class PaidAnswer:
    """What came back for money: the body, its receipt (checked), the PAYMENT-RESPONSE.

    Of a stream `body` is the list of its chunks. `request` is what was sent, `response` the bytes
    that the receipt is about: with both and the salts the payer can show anybody what was said.
    """

    request: bytes
    body: Any
    signed: SignedReceipt
    settlement: Mapping[str, Any]
    response: bytes = b""

    @property
    def charged(self) -> int:
        """What it cost, in atomic units."""
        return self.signed.receipt.payment.charged

    @property
    def text(self) -> str:
        """The text of the first answer, streamed or not."""
        chunks = self.body if isinstance(self.body, list) else [self.body]
        return "".join(map(first_text, chunks))


@dataclass(frozen=True)
class NodeIdentity:
    """Whom the payer expects at the other end: the node's address, and its receipts' domain."""

    address: str
    domain: Domain


class Payer:
    """Pays one node from one wallet, which pays the node through no other client meanwhile.

    `passbook` has the receipts of all calls, those that failed included.
    """

    def __init__(
        self,
        url: str,
        *,
        signer: Signer,
        rpc_url: str,
        network: str,
        node: NodeIdentity,
        scheme: str = "batch-settlement",
        confirm: Confirm = lambda _: True,
        coupon: str = "",
    ) -> None:
        wallet = EthAccountSignerWithRPC(Account.from_key(signer.secret()), rpc_url)
        self._chain: Final = Chain(rpc_url)
        self._channels = BatchSettlementEvmScheme(
            wallet, BatchSettlementEvmSchemeOptions(deposit_strategy=_asking(confirm))
        )
        chosen = ExactEvmScheme(wallet) if scheme == "exact" else self._channels
        client = x402Client().register(network, chosen)
        if scheme == "exact":
            client.on_before_payment_creation(_asking_exact(confirm))
        client.on_before_payment_creation(_agree)
        # The node's token need not be a chain's default asset; `confirm` guards the amount.
        client.set_spend_controls({"allowed_assets": True})
        self._url: Final = url.rstrip("/")
        self._payer: Final = signer.address
        self._node: Final = node
        self.passbook: Final = Passbook()
        self._http: Final = httpx.AsyncClient(
            transport=x402_httpx_transport(client),
            timeout=_TIMEOUT_S,
            base_url=self._url,
            headers={HEADER: coupon} if coupon else {},
        )

    async def __aenter__(self) -> Payer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def call(self, path: str, body: Mapping[str, object]) -> PaidAnswer:
        """POST `body`, pay for it, check the receipt. Raises what `_check_status` raises."""
        sent = sent_bytes(body)
        with self.passbook.call() as line:
            bargain = self._bargain(sent)
            async with _errors():
                response = await self._http.post(path, content=sent, headers=_JSON)
            self._check_refusal(response, response.content, bargain, line)
            settlement = _settlement(response)
            signed = self._check(_bundle(settlement), bargain, line, response.content)
            bargain.check_whole(signed, response.content)
            bargain.check_standard(signed, settlement, self._node.address)
            answer = bargain.read(signed, response.content)
        return PaidAnswer(sent, answer, signed, settlement, response.content)

    async def stream(
        self, path: str, body: Mapping[str, object], on_text: Callable[[str], None]
    ) -> PaidAnswer:
        """Like `call` for `stream: true`; `on_text` hears each piece of text as it comes."""
        sent = sent_bytes(body, stream=True)
        with self.passbook.call() as line:
            bargain, heard = self._bargain(sent), Heard()
            async with (
                _errors(),
                self._http.stream("POST", path, content=sent, headers=_JSON) as response,
            ):
                if response.status_code != 200:
                    self._check_refusal(response, await response.aread(), bargain, line)
                async for piece in events(response):
                    if (chunk := chunk_of(piece)) is None:
                        break
                    if text := heard.take(piece, chunk):
                        on_text(text)
            signed = self._check(heard.bundle, bargain, line, heard.received)
            if heard.failure:
                bargain.check_nothing(signed, heard.received)
                raise UnavailableError(f"the node failed midway: {heard.failure}")
            bargain.check_whole(signed, heard.received, is_ended=heard.is_ended)
        return PaidAnswer(sent, heard.chunks, signed, _settlement(response), heard.received)

    async def refund(self, path: str) -> Mapping[str, Any]:
        """Take back what is left in the channel; return the settlement's JSON.

        Raises `AuditError` (5) when the node says that it sent back what the chain did not move.
        """
        return await asyncio.to_thread(self._refunded, self._url + path)

    def _refunded(self, url: str) -> Mapping[str, Any]:
        try:
            done = self._channels.refund(url)
        except RuntimeError as error:  # how the official client says that nothing was refunded
            raise PaymentRefusedError("refund_failed", str(error)) from error
        settled = dict(done.model_dump(by_alias=True))
        check_refund(self._chain, self._payer, settled, asked(url))
        return settled

    def _bargain(self, request: bytes) -> Bargain:
        """Begin a call: what is signed from here on in this task is signed for it."""
        bargain = Bargain(request, self._payer)
        _BARGAIN.set(bargain)
        return bargain

    def _check_refusal(
        self, response: httpx.Response, body: bytes, bargain: Bargain, line: Line
    ) -> None:
        """Raise for anything but 200; a receipt that comes with it must charge nothing."""
        if response.status_code == 200:
            return
        line.is_answered = True
        # A receipt without salts is about another call, which was answered before.
        bundle = _bundle(_settlement(response))
        if isinstance(bundle, Mapping) and "salts" in bundle:
            signed = self._check(bundle, bargain, line, None)
            bargain.check_nothing(signed, body)
        _check_status(response.status_code, body)

    def _check(
        self, bundle: object, bargain: Bargain, line: Line, response: bytes | None
    ) -> SignedReceipt:
        line.is_answered = True
        if bundle is None:
            raise no_receipt(response or b"")
        line.signed = signed = SignedReceipt.from_json(bundle)
        verify_receipt(
            signed,
            node=self._node.address,
            domain=self._node.domain,
            request=bargain.request,
            response=response,
        )
        bargain.check(signed)
        return signed


def sent_bytes(body: Mapping[str, object], *, stream: bool = False) -> bytes:
    """Return the bytes of a request, as `Payer.call` sends them, or `Payer.stream`."""
    return json.dumps({**body, "stream": True} if stream else body).encode()


def _agree(context: PaymentCreationContext) -> None:
    """Note the most that a call may cost, before its payment is signed."""
    bargain = _BARGAIN.get(None)
    if bargain is not None:
        bargain.accepted = int(context.selected_requirements.get_amount())


def _asking_exact(confirm: Confirm) -> Callable[[PaymentCreationContext], None]:
    def hook(context: PaymentCreationContext) -> None:
        _confirmed(confirm, int(context.selected_requirements.get_amount()))

    return hook


def _confirmed(confirm: Confirm, amount: int) -> None:
    if not confirm(amount):
        raise PaymentRefusedError("payment_declined", "the payment was declined; nothing was paid")


def _asking(confirm: Confirm) -> Callable[[BatchSettlementDepositStrategyContext], bool]:
    def strategy(context: BatchSettlementDepositStrategyContext) -> bool:
        _confirmed(confirm, int(context.deposit_amount))
        return True

    return strategy


def _settlement(response: httpx.Response) -> Mapping[str, Any]:
    header = response.headers.get(PAYMENT_RESPONSE)
    return decode_header(header) if header else {}


def _bundle(settlement: Mapping[str, Any]) -> object:
    extensions = settlement.get("extensions")
    return extensions.get("weightproof") if isinstance(extensions, Mapping) else None


def _check_status(status: int, body: bytes) -> None:
    """Raise for anything but 200: `PaymentRefusedError`, `RequestError` or `UnavailableError`."""
    if status == 200:
        return
    try:
        problem = json.loads(body)["error"]
        code, message = str(problem["code"]), str(problem["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "unknown", f"status {status}"
    if status == 402:
        raise PaymentRefusedError(code, f"the node refused the payment: {message} ({code})")
    if status < 500:
        raise RequestError(f"the node refused the request: {message}")
    raise UnavailableError(f"the node could not answer: {message}")


@asynccontextmanager
async def _errors() -> AsyncIterator[None]:
    """Turn the official client's and httpx's errors into ours."""
    try:
        yield
    except PaymentError as error:
        if isinstance(error.__cause__, PaymentRefusedError):
            raise error.__cause__ from error
        raise PaymentRefusedError("payment_failed", f"the payment failed: {error}") from error
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"the node does not answer: {type(error).__name__}",
            hint="is it running, and is the address right?",
        ) from error
