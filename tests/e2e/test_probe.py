"""`weightproof probe` and the endpoint it asks: what a node says of its memory, checked outside."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response

from inference.errors import UnavailableError
from inference.probe_command import probe
from inference.probe_report import ProbeReport
from inference.receipt_format import BlockFacts
from inference.resident_statement import (
    ResidentStatement,
    SignedStatement,
    check_signature,
    issue,
)
from inference.witness import TooManyQuestionsError
from registry.errors import ConfigError, RecordError, RecordUnknownError
from registry.signing.signer import Signer
from registry.terminal import Terminal
from tests.e2e.shop import Shop, opened
from tests.inference import tiny_models

NAME = "tiny"
NONCE = "0x" + "0c" * 32
Change = Callable[[ResidentStatement], ResidentStatement]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    # The patrol stays out of the way: what is found here, the question found.
    with opened(folder, "resident_check_s = 3600") as shop:
        shop.place(NAME, shop.publish(tiny_models.llama(folder / NAME)))
        yield shop


@pytest.fixture(scope="module")
def model_id(shop: Shop) -> str:
    return shop.node.catalog.get(NAME).model_id


def ask(shop: Shop, name: str = NAME, **body: Any) -> Any:
    """Ask the endpoint; a question that came too early is asked again."""
    with shop.http() as client:
        while True:
            answer = client.post(f"/v1/models/{name}/attest", json={"nonce": NONCE} | body)
            if answer.status_code != 429:
                return answer
            time.sleep(float(answer.headers["retry-after"]))


def run(shop: Shop, model: str, url: str = "", **options: Any) -> ProbeReport:
    terminal = Terminal(as_json=True)
    options = {"address": shop.address, "tensors": 8} | options
    return probe(shop.workspace, url or shop.url, model, terminal, **options)


@pytest.mark.parametrize(
    ("content", "status", "param"),
    [
        (b"", 400, None),
        (b"[]", 400, ""),
        (b"{}", 400, "nonce"),
        (b'{"nonce": "0x00"}', 400, "nonce"),
        (b'{"nonce": "%b"}' % (b"0x" + b"0C" * 32), 400, "nonce"),
        (b'{"nonce": "%b\\n"}' % (b"0x" + b"0c" * 32), 400, "nonce"),
        (b'{"nonce": 12}', 400, "nonce"),
        (b'{"nonce": "%b", "tensors": 0}' % NONCE.encode(), 400, "tensors"),
        (b'{"nonce": "%b", "tensors": 65}' % NONCE.encode(), 400, "tensors"),
        (b'{"nonce": "%b", "tensors": 8.0}' % NONCE.encode(), 400, "tensors"),
        (b'{"nonce": "%b", "tensors": true}' % NONCE.encode(), 400, "tensors"),
        (b'{"nonce": "%b", "names": []}' % NONCE.encode(), 400, "names"),
        (b'{"nonce": "%b", "nonce": "%b"}' % (NONCE.encode(), NONCE.encode()), 400, "nonce"),
        (b" " * 1025, 413, ""),
    ],
)
def test_a_question_that_is_not_one_is_refused(
    shop: Shop, content: bytes, status: int, param: str | None
) -> None:
    with shop.http() as client:
        answer = client.post(f"/v1/models/{NAME}/attest", content=content)
    assert answer.status_code == status
    assert (answer.json()["error"]["param"] or "") == (param or "")


def test_an_unknown_model_is_a_404(shop: Shop) -> None:
    assert ask(shop, "nobody").status_code == 404


def test_a_second_question_too_soon_is_a_429_that_says_when(shop: Shop) -> None:
    assert ask(shop).status_code == 200
    with shop.http() as client:
        answer = client.post(f"/v1/models/{NAME}/attest", json={"nonce": NONCE})
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) < 60
    assert answer.json()["error"]["code"] == "too_many_requests"


def test_one_question_is_answered_at_a_time(shop: Shop) -> None:
    time.sleep(2)
    statuses: list[int] = []

    def question() -> None:
        with shop.http() as client:
            body = {"nonce": NONCE, "tensors": 64}
            statuses.append(client.post(f"/v1/models/{NAME}/attest", json=body).status_code)

    threads = [threading.Thread(target=question) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [429] * 7


def test_a_caller_who_leaves_does_not_block_the_next(shop: Shop) -> None:
    time.sleep(2)

    async def go() -> SignedStatement:
        leaving = asyncio.ensure_future(shop.node.witness.testify(NAME, bytes(32), 64))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(2)
        return await shop.node.witness.testify(NAME, bytes(32), 1)

    assert asyncio.run(go()).statement.asked == 1


def test_the_statement_is_free_and_needs_no_payment_or_log(shop: Shop) -> None:
    before = shop.node.database.read(shop.node.log.size)
    answer = ask(shop, tensors=64)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    signed = SignedStatement.from_json(answer.json())
    check_signature(signed, shop.address)
    assert signed.encode() == answer.content
    tensors = shop.node.catalog.get(NAME).verified.manifest.tensors
    assert sorted(t.name for t in signed.statement.tensors) == sorted(t.name for t in tensors)
    assert shop.node.database.read(shop.node.log.size) == before


def test_a_probe_of_an_honest_node_says_what_is_proven_and_what_is_not(
    shop: Shop, model_id: str
) -> None:
    report = run(shop, NAME, address="")
    assert report.ok, report.to_json()
    assert [check.number for check in report.checks] == [1, 2, 3, 4, 5, 6]
    told = report.to_json()
    assert told["model_id"] == model_id
    assert "signed for a nonce of ours that 8 tensors" in str(told["proven"])
    assert "a clean copy aside" in str(told["not_proven"])
    SignedStatement.from_json(told["statement"])


def test_a_model_that_the_chain_does_not_know_is_not_asked_about(shop: Shop) -> None:
    with pytest.raises(RecordUnknownError):
        run(shop, "0x" + "ab" * 32)


def test_a_name_the_node_does_not_sell_is_told(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="sells no model 'nobody'"):
        run(shop, "nobody")


def test_a_model_that_is_not_served_gives_no_statement(shop: Shop) -> None:
    other = shop.publish(tiny_models.bert_classifier(shop.config.parent / "other"), "classify")
    with pytest.raises(UnavailableError, match="gives no statement: no model"):
        run(shop, "0x" + other.hex())


def test_a_revoked_model_is_refused_before_the_node_is_asked(shop: Shop) -> None:
    folder = tiny_models.llama(shop.config.parent / "gone", hidden=64)
    gone = shop.publish(folder)
    shop.workspace.records.revoke(shop.workspace.signer("publisher"), gone, "withdrawn")
    with pytest.raises(RecordError, match="was revoked"):
        run(shop, "0x" + gone.hex())


@contextmanager
def liar(shop: Shop, change: Change | None, *, answer: bytes = b"") -> Iterator[str]:
    """Serve statements as a dishonest holder of the node's key would make them; yield its URL."""
    app = FastAPI()

    @app.post("/v1/models/{name}/attest")
    async def attest(name: str, request: Request) -> Response:
        asked = await request.json()
        if change is None:
            return Response(answer)
        nonce = bytes.fromhex(asked["nonce"][2:])
        while True:
            try:
                honest = await shop.node.witness.testify(name, nonce, asked["tensors"])
                break
            except TooManyQuestionsError:
                await asyncio.sleep(0.2)
        return Response(issue(shop.node.signer, change(honest.statement)).encode())

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)


def model(**changes: Any) -> Change:
    return lambda said: replace(said, model=replace(said.model, **changes))


def other_digest(said: ResidentStatement) -> ResidentStatement:
    first, *rest = said.tensors
    return replace(said, tensors=(replace(first, digest=bytes(32)), *rest))


@pytest.mark.parametrize(
    ("change", "number", "reason"),
    [
        (lambda said: replace(said, node=Signer.random().address), 1, "by node"),
        (lambda said: replace(said, nonce=bytes(32)), 2, "its nonce is 0x00"),
        (lambda said: replace(said, tensors=said.tensors[1:]), 3, "the nonce selects"),
        (other_digest, 4, "is not what the manifest lists"),
        (model(resident_digest=bytes(32)), 4, "resident digest"),
        (lambda said: replace(said, runtime=replace(said.runtime, dtype="F16")), 5, "served in"),
        (lambda said: replace(said, made_at=said.made_at - 3600), 6, "its time is 36"),
        (model(block=BlockFacts(10**6, bytes(32))), 6, "stood at block 1000000"),
        (model(block=BlockFacts(3, bytes(32))), 6, "block 3 has the hash"),
    ],
)
def test_a_lie_under_the_nodes_own_key_is_found_and_kept(
    shop: Shop, model_id: str, change: Change, number: int, reason: str
) -> None:
    with liar(shop, change) as url:
        report = run(shop, model_id, url)
    assert not report.ok
    found = next(check for check in report.checks if not check.ok)
    assert found.number == number
    assert reason in found.detail
    assert found.evidence["statement"] == report.statement
    assert report.to_json()["proven"] == []


def test_a_block_at_which_the_model_did_not_stand_is_found(shop: Shop, model_id: str) -> None:
    early = shop.workspace.chain.block_at(1)
    with liar(shop, model(block=BlockFacts(1, early.hash))) as url:
        report = run(shop, model_id, url)
    assert [check.number for check in report.checks if not check.ok] == [6]


@pytest.mark.parametrize("answer", [b"", b"{}", b"null", b"x" * 100_000, b'{"statement": 1}'])
def test_an_answer_that_is_no_statement_is_kept_as_evidence(
    shop: Shop, model_id: str, answer: bytes
) -> None:
    with liar(shop, None, answer=answer) as url:
        report = run(shop, model_id, url)
    assert not report.ok
    assert str(report.checks[0].evidence["answer"]).encode()[:50] == answer[:50]


def test_nobody_at_the_address_is_no_finding(shop: Shop, model_id: str) -> None:
    with pytest.raises(UnavailableError, match="does not answer"):
        run(shop, model_id, "http://127.0.0.1:9")


def command(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "inference", "probe", "--config", str(shop.config), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command_exits_with_6_and_the_evidence_when_the_key_is_another(
    shop: Shop, model_id: str
) -> None:
    other = Signer.random().address
    done = command(shop, model_id, "--node", shop.url, "--address", other, "--json")
    assert done.returncode == 6, done.stderr
    told = json.loads(done.stdout)
    assert not told["ok"]
    assert told["checks"][0]["evidence"]["statement"]["statement"]["node"] == shop.address


def test_the_command_tells_a_person_what_is_proven(shop: Shop) -> None:
    done = command(shop, NAME, "--node", shop.url, "--address", shop.address)
    assert done.returncode == 0, done.stderr
    assert "✓ 4 tensors: all 8 are what the manifest lists" in done.stdout
    assert "not proven: that these tensors compute its answers" in done.stdout
