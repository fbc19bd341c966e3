"""Row 27: a model is revoked while a node sells it. Every case goes through the running node.

`tests/e2e/test_revocation.py` measures the bound, and bends the chain; here the attack is that
somebody has already signed a payment, and sends it after the revocation.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from registry.chain.dev_usd import balance
from registry.manifest import Parent
from registry.record import Kind
from tests.attacks.hall import GOOD, Case, Hall
from tests.e2e.market import header
from tests.e2e.payments import exact

# What the node promises, and what busy processors may add.
BOUND_S = 5 + 5
REASON = "poisoned"
PATH = "/v1/chat/completions"


def unlike(folder: Path, name: str) -> Path:
    """Return the folder as another model than any before: its record is a new one."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_name_or_path": name}))
    return folder


@contextmanager
def sold(hall: Hall, case: Case, name: str) -> Iterator[httpx.Response]:
    """Have the model sold; hand out the answer that names its price."""
    with hall.on_sale(case, name):
        answer = hall.ask(name, "Hello")
        assert answer.status_code == 402
        yield answer


def signed(hall: Hall, demand: httpx.Response) -> dict[str, str]:
    offers = header(demand, "PAYMENT-REQUIRED")["accepts"]
    accepted = next(offer for offer in offers if offer["scheme"] == "exact")
    return exact(accepted, hall.workspace.signer("payer"))


def stops(hall: Hall, name: str) -> httpx.Response:
    """Wait until the model is not sold any more; return how it is refused."""
    ends = time.monotonic() + BOUND_S
    while (answer := hall.ask(name, "Hello")).status_code == 402:
        assert time.monotonic() < ends, "the model is still sold"
        time.sleep(0.05)
    return answer


def revoked(hall: Hall, case: Case) -> None:
    hall.workspace.records.revoke(hall.workspace.signer("publisher"), case.id, REASON)


def parent_revoked(hall: Hall, case: Case) -> None:
    (parent,) = hall.workspace.records.record(case.id).parents
    revoked(hall, Case(parent, None))


def attestation_revoked(hall: Hall, case: Case) -> None:
    (attestation,) = hall.workspace.attestations.attestations_of(case.id)
    hall.workspace.attestations.revoke(hall.workspace.signer("attester"), attestation.id)


WAYS: dict[str, tuple[Callable[[Hall, Case], None], str]] = {
    "the model": (revoked, "revoked by its publisher"),
    "what it came from": (parent_revoked, "is tainted by model"),
    "who vouched for it": (attestation_revoked, "0 known attesters vouch"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_model_that_is_revoked_while_loaded_is_refused_before_it_is_charged(
    hall: Hall, folder: Path, way: str
) -> None:
    revoke, reason = WAYS[way]
    parent = hall.register(unlike(folder, f"{way}: parent"))
    case = hall.register(unlike(folder, way), parents=[Parent(Kind.MODEL, parent.id)])
    payer, chain = hall.workspace.signer("payer"), hall.workspace.chain
    token = hall.workspace.config.contracts.dev_usd or ""
    with sold(hall, case, "revocable") as demand:
        payment = signed(hall, demand)
        before, money = hall.books(), balance(chain, token, payer.address)
        revoke(hall, case)
        assert stops(hall, "revocable").status_code == 410
        # The payment was good when it was signed; it buys nothing now and is not taken.
        body = json.loads(demand.request.content)
        with hall.http() as client:
            answer = client.post(PATH, json=body, headers=payment)
        assert answer.status_code == 410
        assert answer.json()["error"]["code"] == "model_stopped"
        assert reason in answer.json()["error"]["message"]
        assert "PAYMENT-REQUIRED" not in answer.headers
        assert hall.books().rows == before.rows
        assert balance(chain, token, payer.address) == money
        assert hall.ask(GOOD, "Hello").status_code == 402
    hall.refuses(case, reason)
