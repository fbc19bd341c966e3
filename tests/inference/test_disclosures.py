"""A node shows a kept call to whom it must, forgets it in time, and logs what it refuses."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient

from inference.audit.beacon import EVERY, Window, seed
from inference.audit.bodies import parse_body
from inference.audit.disclosure import (
    Consent,
    Disclosed,
    DisclosureRequest,
    NotAllowedError,
    Refusal,
    disclosure_domain,
)
from inference.audit.entry import REFUSAL, parse_entry
from inference.audit.log import AuditLog
from inference.audit.replay import Disclosure
from inference.database import Database
from inference.disclosure_book import DisclosureBook
from inference.disclosure_client import DisclosureClient
from inference.disclosure_config import DisclosureConfig
from inference.disclosures import Disclosures
from inference.errors import AuditError, RequestError, UnavailableError
from inference.kept_receipts import store_receipt
from inference.receipts import SignedReceipt, issue
from registry.signing.signer import Signer
from tests.inference.receipt_samples import (
    ANCHOR,
    CHAIN_ID,
    DOMAIN,
    NODE,
    OUTPUT_IDS,
    PAYER,
    REQUEST,
    SALTS,
    STRANGER,
    call,
)

ASKING = disclosure_domain(CHAIN_ID, ANCHOR)


class Desk:
    """A node's disclosures over a database of their own."""

    def __init__(self, folder: Path, config: DisclosureConfig, windows: Any = tuple) -> None:
        self.database = Database(
            f"sqlite:///{folder / 'node.db'}", chain_id=CHAIN_ID, channels=ANCHOR, node=NODE.address
        )
        self.log = AuditLog("example.org/log")
        self.book = DisclosureBook(config)
        self.open = Disclosures(self.book, self.database, self.log, NODE, ASKING, windows)
        self.count = 0

    def sell(self, ids: tuple[int, ...] = OUTPUT_IDS, *, kept_at: int | None = None) -> str:
        """Write a receipt, and keep the call."""
        self.count += 1
        facts = replace(call(), id=f"rcpt_{self.count:016d}")

        def write(tx: Any) -> SignedReceipt:
            at = self.log.next_position(tx)
            signed = issue(NODE, DOMAIN, facts, seq=at.seq, prev=at.prev, salts=SALTS)
            self.log.append(tx, signed.entry())
            store_receipt(tx, signed)
            now = int(time.time()) if kept_at is None else kept_at
            self.book.keep(tx, facts.id, REQUEST, ids, now=now)
            return signed

        return self.database.write_now(write).receipt.id

    def entries(self) -> list[Any]:
        size = self.database.read(self.log.size)
        page = self.database.read(lambda tx: self.log.entry_bytes(tx, 0, size))
        return [parse_entry(data) for data in page]


def asked(receipt: str, by: Signer = PAYER, consent: Consent | None = None) -> DisclosureRequest:
    return DisclosureRequest.ask(
        by, ASKING, node=NODE.address, receipt=receipt, at=int(time.time()), consent=consent
    )


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    desk = Desk(tmp_path, DisclosureConfig(keep_s=60))
    yield desk
    desk.database.close()


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"\xff", b"x" * 5000, b'{"format":"weightproof/consent@1"}']
)
def test_what_is_no_request_is_refused(desk: Desk, body: bytes) -> None:
    with pytest.raises(RequestError, match="no request for disclosure"):
        desk.open.read(body)


def test_whoever_has_no_right_leaves_no_trace_and_learns_nothing(desk: Desk) -> None:
    name = desk.sell()
    for request in (asked(name, STRANGER), asked("rcpt_unknown00000000", STRANGER)):
        with pytest.raises(NotAllowedError):
            desk.open.answer(request)
    assert [entry.kind for entry in desk.entries()] == ["receipt"]


def test_a_call_that_is_not_kept_is_refused_and_the_refusal_logged_once(desk: Desk) -> None:
    name = desk.sell(kept_at=0)
    first = desk.open.answer(asked(name))
    assert isinstance(first, Refusal)
    first.check(NODE.address, ASKING)
    assert (first.receipt, first.why) == (name, "not kept")
    assert desk.open.answer(asked(name)) == first
    logged = [entry for entry in desk.entries() if entry.kind == REFUSAL]
    assert [parse_body(entry) for entry in logged] == [first]


def test_a_node_that_keeps_nothing_holds_no_prompt(tmp_path: Path) -> None:
    desk = Desk(tmp_path, DisclosureConfig())
    name = desk.sell()
    assert isinstance(desk.open.answer(asked(name)), Refusal)
    desk.database.close()
    assert all(REQUEST not in file.read_bytes() for file in tmp_path.iterdir())


def test_what_has_expired_or_is_too_much_is_deleted_oldest_first(tmp_path: Path) -> None:
    size = len(REQUEST) + 4 * len(OUTPUT_IDS)
    desk = Desk(tmp_path, DisclosureConfig(keep_s=60, total_bytes=2 * size))
    now = int(time.time())
    old, *kept = [desk.sell(kept_at=now - age) for age in (90, 3, 2, 1)]
    assert desk.open.sweep() == 2
    assert desk.open.sweep() == 0
    found = [isinstance(desk.open.answer(asked(name)), Disclosed) for name in (old, *kept)]
    assert found == [False, False, True, True]
    desk.database.close()


def test_a_call_without_tokens_is_not_kept(desk: Desk) -> None:
    assert isinstance(desk.open.answer(asked(desk.sell(()))), Refusal)


def test_a_consent_by_rate_shows_what_the_beacon_chose_and_nothing_else(tmp_path: Path) -> None:
    known = Window(0, 8, seed(bytes(32), "example.org/log", 8))
    calls = []

    def windows() -> tuple[Window, ...]:
        calls.append(1)
        return (known,)

    desk = Desk(tmp_path, DisclosureConfig(keep_s=60), windows)
    names = [desk.sell() for _ in range(9)]
    rate = 5_000
    allowed = Consent.give(PAYER, ASKING, node=NODE.address, until=int(time.time()) + 60, rate=rate)
    seen = []
    for name in names:
        try:
            seen.append(isinstance(desk.open.answer(asked(name, STRANGER, allowed)), Disclosed))
        except NotAllowedError:
            seen.append(False)
    # The ninth call is in no checkpoint yet.
    assert seen == [*(known.chooses(seq, rate) for seq in range(8)), False]
    assert any(seen)
    assert not all(seen[:8])
    # The chain is asked again only about what it did not know.
    assert len(calls) == 2
    assert all(known.chooses(seq, EVERY) for seq in range(8))
    desk.database.close()


def served(desk: Desk, spoil: Any = lambda status, data: (status, data)) -> TestClient:
    """Serve a desk over HTTP, as `api/disclosures` does; `spoil` changes its answers."""
    app = FastAPI()

    @app.post("/v1/disclosures")
    async def disclose(request: Request) -> Response:
        try:
            found = desk.open.answer(desk.open.read(await request.body()))
            status, data = (410 if isinstance(found, Refusal) else 200), found.encode()
        except NotAllowedError as error:
            status, data = 403, b'{"error":{"message":"' + error.message.encode() + b'"}}'
        status, data = spoil(status, data)
        return Response(data, status)

    return TestClient(app, base_url="http://node.test")


def signed(desk: Desk, name: str) -> SignedReceipt:
    entry = next(e for e in desk.entries() if e.kind == "receipt")
    found = SignedReceipt.from_json(entry.body)
    assert found.receipt.id == name
    return found


@pytest.mark.parametrize(
    "spoiled", [(200, b""), (200, b"[]"), (200, b"{}"), (410, b"{}"), (500, b"{"), (302, b"{}")]
)
def test_a_node_that_neither_tells_nor_refuses_is_no_finding(
    desk: Desk, spoiled: tuple[int, bytes]
) -> None:
    call_ = signed(desk, desk.sell())
    with served(desk, lambda *_: spoiled) as http:
        client = DisclosureClient(http, PAYER, NODE.address, ASKING)
        with pytest.raises(UnavailableError, match="disclosed nothing"):
            client.ask(call_)


def test_a_refusal_by_another_key_is_a_finding(desk: Desk) -> None:
    name = desk.sell()
    forged = Refusal.sign(STRANGER, ASKING, asked(name), why="not kept", at=1)
    with served(desk, lambda *_: (410, forged.encode())) as http:
        client = DisclosureClient(http, PAYER, NODE.address, ASKING)
        with pytest.raises(AuditError, match="did not sign"):
            client.ask(signed(desk, name))


def test_an_auditor_gets_what_the_payer_allows_it_to_see(desk: Desk) -> None:
    name = desk.sell()
    with served(desk) as http:
        client = DisclosureClient(http, STRANGER, NODE.address, ASKING)
        with pytest.raises(UnavailableError, match="only its payer"):
            client.ask(signed(desk, name))
        until = int(time.time()) + 60
        given = [
            Consent.give(PAYER, ASKING, node=NODE.address, until=until, rate=0),
            Consent.give(PAYER, ASKING, node=NODE.address, until=until, receipt=name),
            Consent.give(STRANGER, ASKING, node=NODE.address, until=until),
        ]
        client = replace(client, consents=given)
        assert client.ask(signed(desk, name)) == Disclosure(REQUEST, SALTS.request, OUTPUT_IDS)
