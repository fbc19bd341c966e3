"""An auditor replays what the beacon chose and payers show; what is refused stays on record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from inference import schema
from inference.audit.disclosure import Consent, disclosure_domain
from inference.audit_command import Sample, run_audit
from inference.client import PaidAnswer
from inference.config import load
from inference.disclosure_client import read_consent
from inference.office import Office
from registry.terminal import Terminal
from tests.e2e.market import CHAT_PATH, CLASSIFIER, CLASSIFY_PATH, Market, ask, opened
from tests.e2e.test_command_line import inside

AUDITOR = "attester"


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with opened(tmp_path_factory.mktemp("market"), "disclosure.keep_s = 3600") as market:
        yield market


@pytest.fixture(scope="module")
def paid(market: Market) -> list[PaidAnswer]:
    """Four chats and a classification, settled, anchored, and a block mined behind that."""

    async def go() -> list[PaidAnswer]:
        async with market.payer() as payer:
            chats = [await payer.call(CHAT_PATH, ask(f"No. {n}", temperature=1)) for n in range(4)]
            body = {"model": CLASSIFIER, "input": ["a film"]}
            return [*chats, await payer.call(CLASSIFY_PATH, body)]

    answers = asyncio.run(go())
    anchor(market)
    return answers


def anchor(market: Market) -> None:
    office = Office.open(load(market.config))
    try:
        office.settlement.tick()
        office.settlement.anchor()
    finally:
        office.close()
    market.devnet.mine()


def audited(market: Market, number: int, key: str = "payer", *consents: Consent) -> Any:
    """Audit the node and return check 8."""
    report = run_audit(
        load(market.config),
        market.node.url,
        Terminal(as_json=True),
        address=market.node.address,
        sample=Sample(number, key, consents),
    )
    assert report.ok, report.to_json()
    return report.checks[7]


def allowed(market: Market, **changes: Any) -> Consent:
    contracts = market.workspace.config.contracts
    domain = disclosure_domain(contracts.chain_id, contracts.audit_anchor)
    how: dict[str, Any] = {"node": market.node.address, "until": 2**40}
    return Consent.give(market.workspace.signer("payer"), domain, **(how | changes))


def test_without_the_payers_consent_an_auditor_sees_nothing(
    market: Market, paid: list[PaidAnswer]
) -> None:
    check = audited(market, 2, AUDITOR)
    assert not check.ran
    assert check.detail.count("was chosen and not disclosed") == 2
    assert "only its payer may see this call" in check.detail
    for kept_out in (allowed(market, auditor=market.node.address), allowed(market, rate=0)):
        assert not audited(market, 2, AUDITOR, kept_out).ran
    assert not any(entry["kind"] == "refusal" for entry in market.log_entries())


def test_what_is_no_request_is_refused_by_name(market: Market) -> None:
    with market.http() as http:
        for body, status in ((b"{}", 400), (b"[1]", 400), (b"\xff", 400), (b"x" * 9999, 413)):
            answer = http.post("/v1/disclosures", content=body)
            assert answer.status_code == status
            assert answer.json()["error"]["message"]


def test_the_calls_that_the_beacon_chose_are_replayed_for_whom_their_payer_lets(
    market: Market, paid: list[PaidAnswer], tmp_path: Path
) -> None:
    # Four calls made tokens; more than there are cannot be chosen.
    assert audited(market, 9).detail == "4 calls gave the same tokens again"
    auditor = market.workspace.signer(AUDITOR).address
    here = ("--config", market.config)
    signed = inside("consent", *here, "--auditor", auditor, "--rate", "10000", "--json")
    file = tmp_path / "consent.json"
    file.write_text(json.dumps(signed.json))
    found = audited(market, 2, AUDITOR, read_consent(file))
    assert found.detail == "2 calls gave the same tokens again"
    told = inside(
        *("audit", *here, "--node", market.node.url, "--address", market.node.address),
        *("--replay", "3", "--key", AUDITOR, "--consent", file, "--json"),
    ).json
    assert told["checks"][7]["detail"] == "3 calls gave the same tokens again"


def test_a_call_that_is_asked_for_rightly_and_gone_is_refused_on_record(
    market: Market, paid: list[PaidAnswer]
) -> None:
    gone = paid[1].signed.receipt.id
    forget(market, gone)
    one = allowed(market, receipt=gone)
    check = audited(market, 4, AUDITOR, one)
    assert f"receipt {gone} was chosen and refused, as is logged: not kept" in check.detail
    logged = [entry["body"] for entry in market.log_entries() if entry["kind"] == "refusal"]
    assert [body["receipt"] for body in logged] == [gone]
    # The log that has it is as good as ever, and asking again adds nothing.
    anchor(market)
    assert "3 calls gave the same tokens again" in audited(market, 4).detail
    assert sum(entry["kind"] == "refusal" for entry in market.log_entries()) == 1


def forget(market: Market, receipt_id: str) -> None:
    """Let a kept call be as if its time had passed."""
    office = Office.open(load(market.config))
    kept = schema.disclosures
    try:
        office.database.write_now(
            lambda tx: tx.execute(delete(kept).where(kept.c.receipt_id == receipt_id))
        )
    finally:
        office.close()
