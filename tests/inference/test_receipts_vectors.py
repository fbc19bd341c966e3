"""Receipts verify for ever: the files in vectors/receipts, by format, are never changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from inference.audit.entry import parse_entry
from inference.audit.merkle import leaf_hash
from inference.errors import AuditError
from inference.receipts import SignedReceipt, receipt_domain, signing_digest, verify_receipt

FOLDER = Path(__file__).parents[1] / "vectors" / "receipts"
FILES = sorted(FOLDER.glob("v*/*.json"))


def name_of(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def verify(vector: Any) -> None:
    domain = receipt_domain(vector["chainId"], vector["anchor"])
    signed = SignedReceipt.from_json(vector["bundle"])
    bodies = {k: vector[k].encode() for k in ("request", "response") if k in vector}
    verify_receipt(signed, node=vector["node"], domain=domain, **bodies)


@pytest.mark.parametrize("path", [p for p in FILES if "refuse" in read(p)], ids=name_of)
def test_a_bad_receipt_is_still_refused_for_its_reason(path: Path) -> None:
    vector = read(path)
    with pytest.raises(AuditError, match=vector["refuse"]["reason"]) as caught:
        verify(vector)
    assert caught.value.check == vector["refuse"]["check"]


@pytest.mark.parametrize("path", [p for p in FILES if "refuse" not in read(p)], ids=name_of)
def test_a_good_receipt_still_verifies(path: Path) -> None:
    vector = read(path)
    verify(vector)
    signed = SignedReceipt.from_json(vector["bundle"])
    domain = receipt_domain(vector["chainId"], vector["anchor"])
    assert signed.receipt.encode().decode() == vector["canonical"]
    assert hashlib.sha256(signed.receipt.encode()).hexdigest() == vector["receiptDigest"][2:]
    assert signing_digest(signed.receipt, domain).hex() == vector["signingDigest"][2:]
    entry = vector["entry"].encode()
    assert parse_entry(entry) == signed.entry()
    assert leaf_hash(entry).hex() == vector["leafHash"][2:]


def test_every_kind_of_outcome_has_a_vector() -> None:
    good = [read(path)["bundle"]["receipt"] for path in FILES if "refuse" not in read(path)]
    assert {receipt["status"] for receipt in good} == {"ok", "partial", "refused", "failed"}
    assert {receipt["payment"]["scheme"] for receipt in good} == {
        "batch-settlement",
        "exact",
        "none",
    }


def test_every_way_to_pay_less_has_a_vector() -> None:
    good = [read(path)["bundle"]["receipt"] for path in FILES if "refuse" not in read(path)]
    plans = [receipt["payment"]["plan"] for receipt in good if "plan" in receipt["payment"]]
    assert {plan["discount"]["by"] for plan in plans} == {"none", "tier", "contract"}
    assert {plan["allowance"]["kind"] for plan in plans} == {
        "none",
        "coupon",
        "trial",
        "subscription",
        "purchase",
    }
    assert any(int(plan["time"]["perSecond"]) for plan in plans)
