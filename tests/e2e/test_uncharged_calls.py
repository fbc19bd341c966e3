"""Calls that were paid for and not served: what is signed about them, and who can check it.

The payer's authorisation was seen and money set aside; then the call was refused before its work
began, or its work broke. Either way nothing is charged, and the payer holds a signed, logged
receipt that says so. Who has reserved nothing leaves no trace.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from typer.testing import CliRunner

from inference import schema
from inference.api.app import _paid
from inference.api.chat import ChatWork
from inference.api.chat_body import ChatRequest
from inference.audit.checkpoint import checkpoint_domain
from inference.audit.checkpoint import verify as verify_note
from inference.audit_command import run_audit
from inference.catalog import CatalogEntry
from inference.cli import app
from inference.client import CHAT, CLASSIFY, sent_bytes
from inference.config import load
from inference.coupon import Coupon, coupon_domain
from inference.engine.engine import MAX_RUNNING, TextEngine
from inference.engine.packing import NAME as PACKED
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest
from inference.errors import NodeError, QueueFullError
from inference.held import read_receipt
from inference.node import Node
from inference.proof import Proof, parse_proof
from inference.receipts import SignedReceipt, receipt_values
from inference.shown import Shown, save_shown
from registry.chain.dev_usd import ONE, balance, mint
from registry.signing.signer import Signer
from registry.terminal import Terminal
from tests.e2e.market import PRICE, ask
from tests.e2e.payments import exact, offer
from tests.e2e.shop import Shop, opened
from tests.e2e.wallet import Wallet
from tests.inference import tiny_models

MODEL = "talker"
LABELS = "labels"
# A chat whose work is disturbed at the moment when its payment is secured.
DISTURBED = "/v1/disturbed/completions"
SCHEMES = ("batch-settlement", "exact")


@dataclass
class Moment:
    """What happens between a secured payment and the work; a test says what."""

    happens: Callable[[CatalogEntry], None] = lambda _: None


class DisturbedWork(ChatWork):
    """A chat that tells its test when it has been paid for."""

    moment: Moment
    _payer: str = ""

    @property
    def payer(self) -> str:  # type: ignore[override]
        return self._payer

    @payer.setter
    def payer(self, payer: str) -> None:
        self._payer = payer
        if payer:
            self.moment.happens(self._entry)


@dataclass
class Lab:
    """A shop with a chat model and a classifier, and a wallet for each test."""

    shop: Shop
    moment: Moment
    model_id: bytes

    def wallet(self) -> Wallet:
        signer = Signer.random()
        workspace = self.shop.workspace
        token = workspace.config.contracts.dev_usd or ""
        mint(workspace.chain, workspace.signer("deployer"), token, signer.address, 10 * ONE)
        return Wallet(self.shop, signer)

    def purse(self, wallet: Wallet) -> int:
        workspace = self.shop.workspace
        token = workspace.config.contracts.dev_usd or ""
        return balance(workspace.chain, token, wallet.signer.address)

    @contextmanager
    def disturbed(self, happens: Callable[[CatalogEntry], None]) -> Iterator[None]:
        """Let something happen to calls that are paid meanwhile; afterwards the model is sold."""
        self.moment.happens = happens
        try:
            yield
        finally:
            self.moment.happens = lambda _: None
            self.shop.place(MODEL, self.model_id)

    def rows(self) -> dict[str, int]:
        """Return how many rows each table of the node's database has."""
        count = select(func.count())
        tables = schema.metadata.sorted_tables
        return self.shop.node.database.read(
            lambda tx: {t.name: tx.execute(count.select_from(t)).scalar_one() for t in tables}
        )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    moment = Moment()

    def add(app: FastAPI, node: Node) -> None:
        kind = type("Work", (DisturbedWork,), {"moment": moment})

        async def prepare(entry: CatalogEntry, ask: ChatRequest) -> ChatWork:
            work: ChatWork = kind(entry, entry.engine, ask)
            return work

        _paid(app, node, DISTURBED, "chat", ChatRequest, prepare)

    with opened(tmp_path_factory.mktemp("lab"), "max_queue = 1", add=add) as shop:
        folder = shop.config.parent
        model = shop.publish(tiny_models.llama(folder / MODEL, context=2048))
        shop.place(MODEL, model)
        labels = shop.publish(tiny_models.bert_classifier(folder / LABELS), "classify")
        shop.place(LABELS, labels, price=PRICE)
        yield Lab(shop, moment, model)


def revoke(lab: Lab) -> Callable[[CatalogEntry], None]:
    def happens(entry: CatalogEntry) -> None:
        lab.shop.node.catalog.stop(entry, "it was revoked")

    return happens


def chat(text: str = "Hello", **more: Any) -> dict[str, Any]:
    return ask(text, **more) | {"model": MODEL}


def run(*words: object) -> Any:
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def steps(ran: Any) -> list[int]:
    """Return the numbers of the steps that hold; none may be false."""
    assert ran.exit_code == 0, ran.output
    return [step["number"] for step in json.loads(ran.stdout)["checks"] if step["ok"]]


def bought(lab: Lab, wallet: Wallet, body: dict[str, Any], **options: Any) -> SignedReceipt:
    """Pay for a call that is not served; return the receipt that its payer is left with."""

    async def go() -> SignedReceipt:
        async with wallet.payer(**options) as payer:
            with pytest.raises(NodeError):
                if body.get("stream"):
                    await payer.stream(DISTURBED, body, lambda _: None)
                else:
                    await payer.call(DISTURBED, body)
            (signed,) = payer.passbook.receipts
            return signed

    return asyncio.run(go())


def prove(lab: Lab, signed: SignedReceipt, folder: Path, request: bytes | None = None) -> Proof:
    """Save a receipt, prove it while the node lives, and verify the proof without it."""
    paid, saved = folder / "paid.json", folder / "proof.json"
    save_shown(paid, Shown(signed, request))
    here = ("--config", lab.shop.config, "--json")
    proven = run("receipt", "prove", paid, "--node", lab.shop.url, "--save", saved, *here)
    about = [2] if request else []
    # Step 7 asks for the record of what was sold, and nothing was.
    assert steps(proven) == [1, *about, 3, 4, 5]
    address = ("--address", lab.shop.address)
    assert steps(run("receipt", "verify", saved, *here, *address)) == [1, *about, 3, 4, 5]
    assert steps(run("receipt", "verify", saved, "--offline", "--json")) == [1, *about, 3, 4, 5]
    return parse_proof(saved.read_bytes())


# Who has reserved nothing


def test_what_is_refused_before_anything_is_reserved_leaves_no_trace(lab: Lab) -> None:
    """A stranger can send as much of it as it likes: neither disk nor log grows."""
    body = {"model": LABELS, "input": "fine"}
    accepted = offer(lab.shop, body, CLASSIFY, "exact")
    stranger, strange = Signer.random(), {"from": Signer.random().address}
    known = lab.wallet().signer
    asked: list[tuple[object, dict[str, str], int]] = [
        (body, {}, 402),
        (body | {"model": "gpt-9"}, {}, 404),
        (body | {"input": 3}, exact(accepted, known), 400),
        (body, {"PAYMENT-SIGNATURE": "not base64!"}, 400),
        (body, exact(accepted, stranger, **strange), 402),
        (body, exact(accepted, known, value="1"), 402),
        (body, exact(accepted | {"amount": "1"}, known), 402),
        (body, exact(accepted, known) | {"Weightproof-Coupon": "none"}, 400),
    ]
    before, size = lab.rows(), len(lab.shop.receipts())
    with lab.shop.http() as client:
        for sent, headers, status in asked:
            answer = client.post(CLASSIFY, json=sent, headers=headers)
            assert answer.status_code == status, (sent, answer.text)
            assert "PAYMENT-RESPONSE" not in answer.headers
    assert lab.rows() == before
    assert len(lab.shop.receipts()) == size


def test_a_wallet_without_money_has_no_receipt_of_being_refused(lab: Lab) -> None:
    """Its signature is good, and anybody can make ten thousand such wallets."""
    body = {"model": LABELS, "input": "fine"}
    payment = exact(offer(lab.shop, body, CLASSIFY, "exact"), Signer.random())
    size = len(lab.shop.receipts())
    with lab.shop.http() as client:
        assert client.post(CLASSIFY, json=body, headers=payment).status_code == 402
    assert len(lab.shop.receipts()) == size


# Refused after the payment was secured


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_model_that_is_revoked_once_it_was_paid_for_is_refused_with_a_receipt(
    lab: Lab, tmp_path: Path, scheme: str, stream: bool
) -> None:
    wallet, body = lab.wallet(), chat(stream=stream)
    with lab.disturbed(revoke(lab)):
        signed = bought(lab, wallet, body, scheme=scheme)
    receipt = signed.receipt
    assert (receipt.status, receipt.payment.charged, receipt.tokens.output) == ("refused", 0, 0)
    assert (receipt.payment.scheme, receipt.payment.payer) == (scheme, wallet.signer.address)
    assert receipt.payment.quote > 0
    assert lab.shop.receipts()[-1] == receipt.to_json()
    if scheme == "exact":
        assert lab.purse(wallet) == 10 * ONE
    prove(lab, signed, tmp_path, sent_bytes(body))
    # Nothing is left set aside: the same wallet is served, and pays for that alone.
    (after,) = wallet.calls((CHAT, chat("after")), scheme=scheme)
    assert after.signed.receipt.payment.cumulative == after.charged > 0


def test_a_full_queue_after_the_payment_is_a_refusal_with_a_receipt(
    lab: Lab, tmp_path: Path
) -> None:
    waiting: list[str] = []

    def fill(entry: CatalogEntry) -> None:
        engine = entry.engine
        assert isinstance(engine, TextEngine)
        while engine.stats().running < MAX_RUNNING or not engine.stats().waiting:
            try:
                waiting.append(engine.submit(GenerationRequest((1, 2, 3), Sampling(1000))))
            except QueueFullError:
                time.sleep(0.001)

    wallet, body = lab.wallet(), chat()
    with lab.disturbed(fill):
        signed = bought(lab, wallet, body)
        for id in waiting:
            lab.shop.node.catalog.get(MODEL).engine.cancel(id)
    assert (signed.receipt.status, signed.receipt.payment.charged) == ("refused", 0)
    prove(lab, signed, tmp_path, sent_bytes(body))
    (after,) = wallet.calls((CHAT, chat("after")))
    assert after.signed.receipt.payment.cumulative == after.charged > 0


def test_a_coupon_of_somebody_else_is_refused_with_a_receipt(lab: Lab, tmp_path: Path) -> None:
    wallet = lab.wallet()
    values = {"wallet": lab.wallet().signer.address, "models": "", "unit": "calls", "limit": 1}
    coupon = Coupon(**values, expires_at=int(time.time()) + 600, nonce=bytes(32))
    text = coupon.signed(lab.shop.workspace.signer("node"), coupon_domain(31337, lab.shop.address))
    signed = bought(lab, wallet, chat(), coupon=text)
    assert (signed.receipt.status, signed.receipt.payment.charged) == ("refused", 0)
    prove(lab, signed, tmp_path, sent_bytes(chat()))


def test_the_deployed_contract_verifies_a_refusal(lab: Lab, tmp_path: Path) -> None:
    with lab.disturbed(revoke(lab)):
        signed = bought(lab, lab.wallet(), chat())
    proof = prove(lab, signed, tmp_path)
    workspace = lab.shop.workspace
    contracts = workspace.config.contracts
    assert contracts.receipt_verifier is not None
    verifier = workspace.chain.contract("ReceiptVerifier", contracts.receipt_verifier)
    domain = checkpoint_domain(contracts.chain_id, contracts.audit_anchor)
    noted = verify_note(proof.checkpoint, lab.shop.address, domain)
    head = (noted.checkpoint.size, noted.checkpoint.root, noted.signature)
    shown = (
        tuple(receipt_values(signed.receipt).values()),
        signed.receipt.encode(),
        signed.signature,
    )
    assert workspace.chain.call(verifier.functions.signerOf(shown)) == lab.shop.address
    call = verifier.functions.isLogged(noted.checkpoint.origin, head, shown, proof.inclusion.path)
    assert workspace.chain.call(call) is True


# Broken on the way


@contextmanager
def broken(lab: Lab) -> Iterator[None]:
    """Let the model compute nothing but what is no number; the patrol looks later."""
    norms = lab.shop.node.catalog.get(MODEL).loaded.module.get_submodule(PACKED).norms
    kept = norms.clone()
    norms.fill_(float("nan"))
    try:
        yield
    finally:
        norms.copy_(kept)
        # Loaded anew: what it remembers of prompts it read meanwhile is spoilt.
        lab.shop.place(MODEL, lab.model_id)


@pytest.mark.parametrize("words", [[], ["--no-stream"], ["--scheme", "exact"]])
def test_an_engine_that_breaks_leaves_its_payer_with_a_receipt_to_prove(
    lab: Lab, tmp_path: Path, words: list[str]
) -> None:
    """All of it by the commands: ask, keep what the node signed, prove and verify it."""
    paid = tmp_path / "paid.json"
    here = ("--config", lab.shop.config, "--json", "--model", MODEL, "--node", lab.shop.url)
    with broken(lab):
        asked = run("chat", "Hello", "--yes", "--save", paid, *here, *words)
    assert asked.exit_code == 4
    assert "not numbers" in asked.stderr
    signed = read_receipt(paid)
    receipt = signed.receipt
    assert (receipt.status, receipt.payment.charged, receipt.tokens.output) == ("failed", 0, 0)
    request = paid.with_suffix(".request").read_bytes()
    assert json.loads(request)["messages"][0]["content"] == "Hello"
    assert prove(lab, signed, tmp_path, request).signed == signed
    assert lab.shop.receipts()[-1] == receipt.to_json()


# From outside


def test_an_audit_of_all_of_it_holds(lab: Lab) -> None:
    wallet = lab.wallet()
    wallet.calls((CHAT, chat()))
    with lab.disturbed(revoke(lab)):
        bought(lab, wallet, chat())
    with broken(lab):
        bought(lab, wallet, chat())
    report = run_audit(load(lab.shop.config), lab.shop.url, Terminal(as_json=True))
    assert report.ok, json.dumps(report.to_json(), indent=1)
    assert {receipt["status"] for receipt in lab.shop.receipts()} == {"ok", "refused", "failed"}
