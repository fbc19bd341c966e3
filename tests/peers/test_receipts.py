"""Proofs, judged by a JavaScript file that knows the format and viem, and nothing of ours."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.client import CHAT, PaidAnswer, sent_bytes
from inference.config import load
from inference.coupon import Coupon, coupon_domain
from inference.errors import RequestError
from inference.held import Held
from inference.receipt_command import save_proof
from inference.receipts import SignedReceipt
from tests.e2e.market import Market, ask, opened
from tests.inference.receipt_samples import CHAIN_ID, NODE
from tests.peers.clients import FOLDER, script

pytestmark = pytest.mark.peer
VECTORS = Path(__file__).parents[1] / "vectors" / "receipts"
GOOD = {
    f"{path.parent.name}-{path.stem}": json.loads(path.read_text())
    for path in sorted(VECTORS.rglob("*.json"))
    if "proof" in json.loads(path.read_text())
}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with opened(tmp_path_factory.mktemp("market")) as market:
        yield market


def judged(*proofs: str, node: str = "") -> list[Any]:
    found: list[Any] = script("receipt.mjs", [{"proof": proof, "node": node} for proof in proofs])
    return found


def changed(change: Callable[[Any], object]) -> str:
    """Return a good proof with one change, canonical again."""
    proof = json.loads(GOOD["v1-ok_channel"]["proof"])
    change(proof)
    return json.dumps(proof, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


BAD: dict[str, tuple[Callable[[Any], object], str]] = {
    "charge": (lambda p: p["entry"]["body"]["receipt"]["payment"].update(charged="1"), "signed by"),
    "chain": (lambda p: p.update(chain=1), "signed by"),
    "node": (lambda p: p.update(node=p["anchor"]), "of another node"),
    "request": (lambda p: p.update(request="aGk="), "another request"),
    "response": (lambda p: p.update(response="aGk="), "another response"),
    "salt": (lambda p: p["salts"].update(request="0x" + "00" * 32), "another request"),
    "path": (lambda p: p["inclusion"]["path"].reverse(), "another root"),
    "short": (lambda p: p["inclusion"]["path"].pop(), "too short"),
    "long": (lambda p: p["inclusion"]["path"].append("0x" + "00" * 32), "too long"),
    "size": (lambda p: p["inclusion"].update(size=12), "another size"),
    "head": (lambda p: p.update(checkpoint=p["checkpoint"].replace("\n11\n", "\n12\n")), "signed"),
    "anchored": (lambda p: p["anchored"].update(root="0x" + "00" * 32), "another root"),
    "future": (lambda p: p.update(format="weightproof/proof@2"), "no proof known"),
    "receipt": (
        lambda p: p["entry"]["body"]["receipt"].update(format="weightproof/receipt@9"),
        "no receipt known",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_javascript_refuses_a_proof_with_a_change(name: str) -> None:
    change, reason = BAD[name]
    (found,) = judged(changed(change))
    assert not found["ok"]
    assert reason in found["reason"]


def test_javascript_refuses_another_spelling_and_another_node() -> None:
    proof = GOOD["v1-ok_channel"]["proof"]
    spaced, doubled = proof.replace(":", ": ", 1), proof.replace("{", '{"anchor":"0x",', 1)
    assert [found["ok"] for found in judged(spaced, doubled)] == [False, False]
    (found,) = judged(proof, node=GOOD["v1-ok_channel"]["anchor"])
    assert not found["ok"]


def test_javascript_verifies_every_vector() -> None:
    found = judged(*(vector["proof"] for vector in GOOD.values()))
    for name, verdict in zip(GOOD, found, strict=True):
        assert verdict["ok"], f"{name}: {verdict}"
        wanted = ["checkpoint", "inclusion", "anchored inclusion"]
        if verdict["kind"] == "receipt":
            wanted = ["signature", "request", "response", *wanted]
        assert verdict["steps"] == wanted


def test_the_javascript_is_short_and_needs_only_viem() -> None:
    lines = (FOLDER / "receipt.mjs").read_text().splitlines()
    assert len(lines) <= 150
    imported = [line.rpartition(" from ")[2] for line in lines if line.startswith("import")]
    assert imported == ['"viem";']


def test_javascript_verifies_what_a_live_node_sold(market: Market, tmp_path: Path) -> None:
    async def buy() -> list[PaidAnswer]:
        async with market.payer() as payer:
            whole = await payer.call(CHAT, ask("whole"))
            return [whole, await payer.stream(CHAT, ask("streamed"), lambda _: None)]

    saved = tmp_path / "proof.json"
    for answer in asyncio.run(buy()):
        signed = answer.signed
        held = Held(signed.entry(), signed, None, answer.request, answer.response)
        verdict = save_proof(load(market.config), market.node.url, held, saved)
        assert verdict.ok, verdict.to_json()
        (found,) = judged(saved.read_text(), node=market.node.address)
        assert found["ok"], found
        assert found["steps"] == ["signature", "request", "response", "checkpoint", "inclusion"]


@pytest.mark.parametrize("scheme", ["batch-settlement", "exact"])
def test_javascript_verifies_what_a_live_node_refused(
    market: Market, tmp_path: Path, scheme: str
) -> None:
    """The payment was good, the coupon beside it is somebody else's: nothing is charged."""
    domain = coupon_domain(CHAIN_ID, market.node.address)
    until = int(time.time()) + 600
    coupon = Coupon(NODE.address, "", "calls", 1, until, bytes(32))
    text = coupon.signed(market.workspace.signer("node"), domain)

    async def refused() -> SignedReceipt:
        async with market.payer(coupon=text, scheme=scheme) as payer:
            with pytest.raises(RequestError, match="coupon"):
                await payer.call(CHAT, ask("refused"))
            (signed,) = payer.passbook.receipts
            return signed

    signed, saved = asyncio.run(refused()), tmp_path / "proof.json"
    assert (signed.receipt.status, signed.receipt.payment.charged) == ("refused", 0)
    held = Held(signed.entry(), signed, None, sent_bytes(ask("refused")), None)
    assert save_proof(load(market.config), market.node.url, held, saved).ok
    (found,) = judged(saved.read_text(), node=market.node.address)
    assert found["steps"] == ["signature", "request", "checkpoint", "inclusion"]
