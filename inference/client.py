"""Story c from the payer's side: pay through the official x402 client, check the receipt.

The payment itself is the official package's work (PyPI `x402`, unmodified): it opens and tops up
the channel and signs vouchers. Here the answer's receipt is checked: signed by the node, about this
payer, this model and the very bytes that were sent and received, and charged by its own price and
token counts. An answer whose receipt does not hold is not returned.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
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

from inference.coupon import HEADER
from inference.errors import AuditError, PaymentRefusedError, RequestError, UnavailableError
from inference.payments.x402 import PAYMENT_RESPONSE, decode_header
from inference.receipts import SignedReceipt, verify_receipt
from registry.signing.signer import Signer
from registry.signing.typed_data import Domain

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
CLASSIFY: Final = "/v1/classify"
EMBEDDINGS: Final = "/v1/embeddings"
# Seconds; a slow model on a slow processor may think for minutes.
_TIMEOUT_S: Final = 600.0
_DATA: Final = b"data: "
_JSON: Final = {"content-type": "application/json"}

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
        return "".join(map(_first_text, chunks))


@dataclass(frozen=True)
class NodeIdentity:
    """Whom the payer expects at the other end: the node's address, and its receipts' domain."""

    address: str
    domain: Domain


class Payer:
    """Pays one node from one wallet."""

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
        self._channels = BatchSettlementEvmScheme(
            wallet, BatchSettlementEvmSchemeOptions(deposit_strategy=_asking(confirm))
        )
        chosen = ExactEvmScheme(wallet) if scheme == "exact" else self._channels
        client = x402Client().register(network, chosen)
        if scheme == "exact":
            client.on_before_payment_creation(_asking_exact(confirm))
        # The node's token need not be a chain's default asset; `confirm` guards the amount.
        client.set_spend_controls({"allowed_assets": True})
        self._url: Final = url.rstrip("/")
        self._payer: Final = signer.address
        self._node: Final = node
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
        sent = json.dumps(body).encode()
        async with _errors():
            response = await self._http.post(path, content=sent, headers=_JSON)
        _check_status(response.status_code, response.content)
        settlement = decode_header(response.headers.get(PAYMENT_RESPONSE, ""))
        bundle = _bundle(settlement)
        signed = self._check(bundle, sent, response.content)
        return PaidAnswer(sent, response.json(), signed, settlement, response.content)

    async def stream(
        self, path: str, body: Mapping[str, object], on_text: Callable[[str], None]
    ) -> PaidAnswer:
        """Like `call` for `stream: true`; `on_text` hears each piece of text as it comes."""
        sent = json.dumps({**body, "stream": True}).encode()
        received, chunks, bundle = b"", [], None
        async with (
            _errors(),
            self._http.stream("POST", path, content=sent, headers=_JSON) as response,
        ):
            if response.status_code != 200:
                _check_status(response.status_code, await response.aread())
            async for piece in _events(response):
                chunk = _chunk(piece)
                if chunk is None:
                    break
                if "weightproof" in chunk:
                    bundle = chunk["weightproof"]
                    continue
                received += piece
                if "error" in chunk:
                    raise UnavailableError(f"the node failed midway: {chunk['error']['message']}")
                chunks.append(chunk)
                if text := _first_text(chunk):
                    on_text(text)
        settlement = decode_header(response.headers.get(PAYMENT_RESPONSE, ""))
        signed = self._check(bundle, sent, received)
        return PaidAnswer(sent, chunks, signed, settlement, received)

    async def refund(self, path: str) -> Mapping[str, Any]:
        """Take back what is left in the channel; return the settlement's JSON."""
        done = await asyncio.to_thread(self._channels.refund, self._url + path)
        return dict(done.model_dump(by_alias=True))

    def _check(self, bundle: object, request: bytes, response: bytes) -> SignedReceipt:
        if bundle is None:
            raise AuditError(4, "the answer came without a receipt", evidence={})
        signed = SignedReceipt.from_json(bundle)
        self._check_subject(signed, request)
        verify_receipt(
            signed,
            node=self._node.address,
            domain=self._node.domain,
            request=request,
            response=response,
        )
        return signed

    def _check_subject(self, signed: SignedReceipt, request: bytes) -> None:
        """Raise `AuditError` (4) unless the receipt is about this payer and the model asked for.

        A model asked for by its ModelId must be exactly that; a name is the node's own word.
        """
        receipt, asked = signed.receipt, str(json.loads(request)["model"])
        answered = receipt.model.name
        if asked.startswith("0x"):
            answered = "0x" + receipt.model.model_id.hex()
        evidence = {"receipt": signed.bundle()}
        if answered != asked.lower() and answered != asked:
            text = f"model {answered} answered, {asked} was asked"
            raise AuditError(4, text, evidence=evidence)
        if receipt.payment.payer != self._payer:
            text = f"the receipt is about payer {receipt.payment.payer}"
            raise AuditError(4, text, evidence=evidence)


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


def _bundle(settlement: Mapping[str, Any]) -> object:
    extensions = settlement.get("extensions")
    return extensions.get("weightproof") if isinstance(extensions, Mapping) else None


async def _events(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield each event's exact bytes, its blank line included."""
    waiting = b""
    async for piece in response.aiter_bytes():
        waiting += piece
        while (end := waiting.find(b"\n\n")) >= 0:
            yield waiting[: end + 2]
            waiting = waiting[end + 2 :]


def _chunk(piece: bytes) -> dict[str, Any] | None:
    text = piece.removeprefix(_DATA).strip()
    if text == b"[DONE]":
        return None
    try:
        chunk = json.loads(text)
    except ValueError as error:
        raise UnavailableError("the node's stream is not JSON events") from error
    if not isinstance(chunk, dict):
        raise UnavailableError("the node's stream is not JSON events")
    return chunk


def _first_text(body: Mapping[str, Any]) -> str:
    """Return the text of the first answer in a body or chunk of either text route."""
    for choice in body["choices"]:
        if choice["index"] == 0:
            said = choice.get("message") or choice.get("delta") or choice
            return said.get("content") or said.get("text") or ""
    return ""


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
