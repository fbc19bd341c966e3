"""Receipts of a live node, of every kind: issued, proven while it lives, verified without it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from inference.audit.checkpoint import checkpoint_domain
from inference.audit.checkpoint import verify as verify_note
from inference.cli import app
from inference.client import CHAT, PaidAnswer
from inference.config import load
from inference.formats import FORMATS
from inference.office import Office
from inference.proof import parse_proof
from inference.shown import Shown, save_shown
from registry.signing.canonical import encode
from registry.signing.signer import Signer
from tests.e2e.market import CLASSIFIER, CLASSIFY_PATH, Market, ask
from tests.e2e.payments import exact, offer


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    def steps(self) -> dict[int, dict[str, Any]]:
        """Return the steps of `--json`, by number."""
        return {step["number"]: step for step in json.loads(self.out)["checks"]}

    def done(self) -> list[int]:
        """Return the numbers of the steps that ran and hold; none may be false."""
        assert self.code == 0, self
        return [number for number, step in self.steps().items() if step["ok"]]


def run(*arguments: object) -> Ran:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


def verify(market: Market, path: Path, *options: object) -> Ran:
    here = ("--config", market.config, "--address", market.node.address)
    return run("receipt", "verify", path, *here, *options, "--json")


def prove(market: Market, *options: object) -> Ran:
    here = ("--config", market.config, "--node", market.node.url)
    return run("receipt", "prove", *options, *here, "--json")


def bought(market: Market, path: Path, *, streamed: bool = False, **options: Any) -> PaidAnswer:
    """Buy an answer and save what `chat --save` saves of it."""

    async def go() -> PaidAnswer:
        async with market.payer(**options) as payer:
            if streamed:
                return await payer.stream(CHAT, ask("streamed"), lambda _: None)
            answer: PaidAnswer = await payer.call(CHAT, ask("whole"))
            return answer

    answer = asyncio.run(go())
    save_shown(path, Shown(answer.signed, answer.request, answer.response))
    return answer


def anchor(market: Market) -> None:
    office = Office.open(load(market.config))
    try:
        office.settlement.anchor()
    finally:
        office.close()


def test_a_proof_of_what_is_not_in_the_log_is_not_saved(market: Market, tmp_path: Path) -> None:
    saved = tmp_path / "proof.json"
    ran = prove(market, "--entry", 10**6, "--save", saved)
    assert (ran.code, ran.out) == (6, "")
    paid = tmp_path / "paid.json"
    bought(market, paid)
    bundle = json.loads(paid.read_text())
    bundle["receipt"]["payment"]["charged"] = "1"
    paid.write_text(json.dumps(bundle))
    ran = prove(market, paid, "--save", saved)
    assert ran.code == 6
    assert not ran.steps()[1]["ok"]
    assert not ran.steps()[4]["ok"]
    assert not saved.exists()


def test_what_cannot_be_proven_or_saved_is_said_before_anybody_is_asked(
    market: Market, tmp_path: Path
) -> None:
    paid = tmp_path / "paid.json"
    for options in ([], ["--save", paid], [paid], [paid, "--entry", 0, "--save", paid]):
        assert prove(market, *options).code == 2
    assert prove(market, "--entry", 0, "--save", tmp_path / "no" / "p.json").code == 2
    ran = prove(market, "--entry", 0, "--save", paid, "--address", Signer.random().address)
    assert ran.code == 6
    assert "no signature by" in ran.err
    assert not paid.exists()


@pytest.mark.parametrize(
    ("streamed", "scheme"),
    [(False, "batch-settlement"), (True, "batch-settlement"), (True, "exact")],
)
def test_an_answer_is_proven_and_verified_without_its_node(
    market: Market, tmp_path: Path, streamed: bool, scheme: str
) -> None:
    paid, saved = tmp_path / "paid.json", tmp_path / "proof.json"
    answer = bought(market, paid, streamed=streamed, scheme=scheme)
    assert verify(market, paid).done() == [1, 2, 3, 7]
    assert prove(market, paid, "--save", saved).done() == [1, 2, 3, 4, 5, 7]
    # What is anchored is a later head than the one in the proof.
    bought(market, tmp_path / "other.json")
    anchor(market)
    assert verify(market, saved).done() == [1, 2, 3, 4, 5, 7]
    assert prove(market, saved, "--save", saved).done() == [1, 2, 3, 4, 5, 6, 7]
    assert verify(market, saved).done() == [1, 2, 3, 4, 5, 6, 7]
    alone = run("receipt", "verify", saved, "--offline", "--json")
    assert alone.done() == [1, 2, 3, 4, 5]
    proof = parse_proof(saved.read_bytes())
    assert proof.signed == answer.signed
    assert proof.record is not None
    assert proof.record.publisher == market.workspace.signer("publisher").address
    assert proof.record.attesters == (market.workspace.signer("attester").address,)


def test_a_public_proof_shows_what_was_charged_and_not_what_was_said(
    market: Market, tmp_path: Path
) -> None:
    paid, saved = tmp_path / "paid.json", tmp_path / "public.json"
    answer = bought(market, paid)
    assert prove(market, paid, "--public", "--save", saved).done() == [1, 3, 4, 5, 7]
    assert answer.signed.salts is not None
    text = saved.read_text()
    for secret in (answer.signed.salts.request, answer.signed.salts.response):
        assert secret.hex() not in text


def test_a_model_that_nobody_trusted_vouched_for_is_found_by_asking_the_chain(
    market: Market, tmp_path: Path
) -> None:
    paid, saved = tmp_path / "paid.json", tmp_path / "proof.json"
    bought(market, paid)
    prove(market, paid, "--save", saved)
    text = market.config.read_text()
    nobody = tmp_path / "weightproof.toml"
    stranger = Signer.random().address
    attester = market.workspace.signer("attester").address
    nobody.write_text(text.replace(f'attesters = ["{attester}"]', f'attesters = ["{stranger}"]'))
    ran = run("receipt", "verify", saved, "--config", nobody, "--json")
    assert ran.code == 6
    assert "attesters vouched" in ran.steps()[7]["detail"]


def test_a_stream_that_was_left_midway_has_a_receipt(market: Market, tmp_path: Path) -> None:
    async def leave() -> None:
        async with market.payer() as payer:
            sent = ask("leave", max_tokens=1000, stream=True)
            async with payer._http.stream("POST", CHAT, json=sent) as response:
                async for _ in response.aiter_bytes():
                    return

    before = len(market.log_entries())
    asyncio.run(leave())
    deadline = time.monotonic() + 30
    while len(market.log_entries()) == before and time.monotonic() < deadline:
        time.sleep(0.2)
    saved = tmp_path / "partial.json"
    assert prove(market, "--entry", before, "--save", saved).done() == [1, 3, 4, 5, 7]
    proof = parse_proof(saved.read_bytes())
    assert proof.signed is not None
    assert proof.signed.receipt.status == "partial"


def test_a_refund_comes_with_its_note_proven(market: Market, tmp_path: Path) -> None:
    async def go() -> Any:
        async with market.payer() as payer:
            await payer.call(CHAT, ask("refund me"))
            return await payer.refund(CHAT)

    settled = asyncio.run(go())
    saved = tmp_path / "refund.json"
    saved.write_bytes(encode(settled["extensions"]["weightproof"]["proof"]))
    assert run("receipt", "verify", saved, "--offline", "--json").done() == [4, 5]
    body = parse_proof(saved.read_bytes()).entry.body
    assert (body["action"], body["amount"]) == ("refund", settled["amount"])
    assert body["transaction"] == settled["transaction"]
    anchor(market)
    assert prove(market, saved, "--save", saved).done() == [4, 5, 6]


def test_an_invalid_payment_leaves_no_entry(
    market: Market,
) -> None:
    body = {"model": CLASSIFIER, "input": "fine"}
    accepted = offer(market, body, CLASSIFY_PATH, "exact")
    before = len(market.log_entries())
    payment = exact(accepted, market.workspace.signer("payer"), value="1")
    with market.http() as client:
        answer = client.post(CLASSIFY_PATH, json=body, headers=payment)
    assert answer.status_code == 402
    assert len(market.log_entries()) == before


def test_the_deployed_contract_verifies_a_live_receipt(market: Market, tmp_path: Path) -> None:
    paid, saved = tmp_path / "paid.json", tmp_path / "proof.json"
    signed = bought(market, paid).signed
    prove(market, paid, "--save", saved)
    proof = parse_proof(saved.read_bytes())
    receipt, chain = signed.receipt, market.workspace.chain
    place = market.workspace.config.contracts.receipt_verifier
    assert place is not None
    contract = chain.contract("ReceiptVerifier", place)
    text = receipt.encode()
    values = (
        hashlib.sha256(text).digest(),
        receipt.model.model_id,
        receipt.payment.payer,
        receipt.payment.charged,
        receipt.request.hash,
        receipt.response.hash,
        receipt.seq,
    )
    shown = (values, text, signed.signature)
    assert chain.call(contract.functions.signerOf(shown)) == market.node.address
    contracts = market.workspace.config.contracts
    domain = checkpoint_domain(contracts.chain_id, contracts.audit_anchor)
    noted = verify_note(proof.checkpoint, market.node.address, domain)
    head, signature = noted.checkpoint, noted.signature
    signed_head = (head.size, head.root, signature)

    def is_logged(path: list[bytes]) -> bool:
        call = contract.functions.isLogged(head.origin, signed_head, shown, path)
        return bool(chain.call(call))

    assert is_logged(list(proof.inclusion.path))
    assert not is_logged([*proof.inclusion.path, bytes(32)])


def test_a_node_publishes_the_schemas_of_what_it_signs(market: Market) -> None:
    with market.http() as client:
        listed = client.get("/v1/schemas").json()["data"]
        assert [one["name"] for one in listed] == list(FORMATS)
        for one in listed:
            answer = client.get(one["path"])
            assert answer.json() == FORMATS[one["name"]].schema
            assert answer.headers["content-type"].startswith("application/schema+json")
        missing = client.get("/v1/schemas/receipt@7")
    assert missing.status_code == 404
    assert "receipt@7" in missing.json()["error"]["message"]
    assert (
        json.loads(run("receipt", "schema", "receipt@1", "--json").out)
        == FORMATS["receipt@1"].schema
    )
