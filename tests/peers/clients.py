"""The payment clients of others, unmodified, behind one face: npm `@x402/fetch`, PyPI `x402`.

Each takes the same list of steps and tells what came of each: a body is POSTed and paid for,
`FORGET` makes the client lose what it knew of its channel, `refund` asks for money back.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import requests
from eth_account import Account
from x402 import x402Client, x402ClientSync
from x402.http.clients import x402_http_adapter, x402_httpx_transport
from x402.mechanisms.evm.batch_settlement.client.config import (
    BatchSettlementDepositPolicy,
    BatchSettlementEvmSchemeOptions,
)
from x402.mechanisms.evm.batch_settlement.client.refund import RefundOptions
from x402.mechanisms.evm.batch_settlement.client.scheme import BatchSettlementEvmScheme
from x402.mechanisms.evm.exact.client import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC

from inference.payments.x402 import decode_header
from registry.signing.signer import Signer

FOLDER = Path(__file__).parent / "official"
NODE = Path(__file__).parents[2] / ".venv" / "bin" / "node"
NETWORK = "eip155:31337"
FORGET: dict[str, Any] = {"forget": True}
_TIMEOUT_S = 120

Step: TypeAlias = dict[str, Any]
Buy: TypeAlias = Callable[[Step], dict[str, Any]]


def refund(amount: int | None = None) -> Step:
    """Return the step that asks for money back, for all of it without an amount."""
    return {"refund": str(amount or "")}


@dataclass(frozen=True)
class Customer:
    """Who pays: a wallet at a URL. `wallet` is that of `pay.mjs`, for JavaScript only."""

    url: str
    rpc_url: str
    signer: Signer
    scheme: str = "batch-settlement"
    wallet: dict[str, Any] | None = None


def script(name: str, task: object) -> Any:
    """Run one of the scripts in `official` with the project's Node; return what it prints."""
    done = subprocess.run(
        [str(NODE), name, json.dumps(task)],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def javascript(customer: Customer, steps: Sequence[Step]) -> list[Any]:
    """Take the steps with `@x402/fetch`."""
    task = {
        "url": customer.url,
        "rpcUrl": customer.rpc_url,
        "network": NETWORK,
        "key": "0x" + customer.signer.secret().hex(),
        "scheme": customer.scheme,
        "steps": list(steps),
    }
    if customer.wallet:
        task["wallet"] = customer.wallet
    found: list[Any] = script("pay.mjs", task)
    return found


def python_httpx(customer: Customer, steps: Sequence[Step]) -> list[Any]:
    """Take the steps with PyPI `x402` over httpx."""

    def buyer(scheme: Any) -> Buy:
        async def buy(body: Step) -> dict[str, Any]:
            async with paying_httpx(customer, scheme) as http:
                answer = await http.post(customer.url, json=body)
                return _told(answer.status_code, answer.text, answer.headers)

        return lambda body: asyncio.run(buy(body))

    return _take(customer, steps, buyer)


def paying_httpx(customer: Customer, scheme: Any = None) -> httpx.AsyncClient:
    """Return a client of httpx that pays; with a new `scheme` it knows of no channel."""
    client = x402Client().register(NETWORK, scheme or _scheme(customer))
    client.set_spend_controls({"allowed_assets": True})
    return httpx.AsyncClient(transport=x402_httpx_transport(client), timeout=_TIMEOUT_S)


def python_requests(customer: Customer, steps: Sequence[Step]) -> list[Any]:
    """Take the steps with PyPI `x402` over requests."""

    def buyer(scheme: Any) -> Buy:
        client = x402ClientSync().register(NETWORK, scheme)
        client.set_spend_controls({"allowed_assets": True})

        def buy(body: Step) -> dict[str, Any]:
            with requests.Session() as session:
                session.mount("http://", x402_http_adapter(client))
                answer = session.post(customer.url, json=body, timeout=_TIMEOUT_S)
                return _told(answer.status_code, answer.text, answer.headers)

        return buy

    return _take(customer, steps, buyer)


CLIENTS = {"javascript": javascript, "httpx": python_httpx, "requests": python_requests}


def _take(customer: Customer, steps: Sequence[Step], buyer: Callable[[Any], Buy]) -> list[Any]:
    scheme = _scheme(customer)
    buy = buyer(scheme)
    done: list[Any] = []
    for step in steps:
        if step is FORGET:
            scheme = _scheme(customer)
            buy = buyer(scheme)
            done.append(None)
        elif "refund" in step:
            done.append(_refund(scheme, customer.url, step["refund"]))
        else:
            done.append(buy(step))
    return done


def _scheme(customer: Customer) -> Any:
    account = Account.from_key(customer.signer.secret())
    signer = EthAccountSignerWithRPC(account, customer.rpc_url)
    if customer.scheme == "exact":
        return ExactEvmScheme(signer)
    policy = BatchSettlementDepositPolicy(deposit_multiplier=5)
    return BatchSettlementEvmScheme(signer, BatchSettlementEvmSchemeOptions(deposit_policy=policy))


def _refund(scheme: Any, url: str, amount: str) -> dict[str, Any]:
    try:
        done = scheme.refund(url, RefundOptions(amount=amount or None))
    except RuntimeError as error:
        return {"success": False, "error": str(error)}
    return dict(done.model_dump(by_alias=True))


def _told(status: int, text: str, headers: Any) -> dict[str, Any]:
    settled = headers.get("PAYMENT-RESPONSE")
    return {"status": status, "text": text, "settled": decode_header(settled) if settled else None}
