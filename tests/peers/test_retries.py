"""A payer that lost an answer gets it again, and never pays twice: over HTTP, across restarts."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from eth_account import Account
from x402 import x402Client
from x402.http.clients import x402_httpx_transport
from x402.mechanisms.evm.exact.client import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC

from inference.demo.node_process import NodeProcess
from inference.payments.eip3009 import Token
from inference.receipts import SignedReceipt, receipt_domain, verify_receipt
from registry.chain.dev_usd import ONE, balance, mint
from registry.signing.signer import Signer
from tests.e2e.market import (
    CHAT_PATH,
    CLASSIFIER,
    CLASSIFY_PATH,
    Market,
    ask,
    header,
    opened,
)
from tests.e2e.payments import exact, wrap
from tests.fakes.rpc_proxy import RpcProxy, refusing, rpc_proxy
from tests.inference.payments.payer import Payer, make_terms

pytestmark = pytest.mark.peer
OFFICIAL = Path(__file__).parent / "official"
NODE = Path(__file__).parents[2] / ".venv" / "bin" / "node"
COPIES = 50
FINE = {"model": CLASSIFIER, "input": "fine"}


@dataclass
class House:
    """A market whose node can be killed and started again."""

    market: Market
    node: NodeProcess

    @property
    def url(self) -> str:
        return self.node.url

    def restart(self, config: Path | None = None) -> None:
        """Kill the node (SIGKILL) and start another on the same database."""
        with self.node._process as process:
            process.kill()
        path = config or self.market.config
        self.node = NodeProcess.start(path, log=path.parent / f"{secrets.token_hex(4)}.log")

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def post(self, path: str, body: dict[str, Any], payment: dict[str, str]) -> httpx.Response:
        with self.http() as client:
            return client.post(path, json=body, headers=payment)

    def at_once(
        self, path: str, body: dict[str, Any], payment: dict[str, str]
    ) -> list[httpx.Response]:
        """Send fifty copies of one request at once."""

        async def go() -> list[httpx.Response]:
            limits = httpx.Limits(max_connections=COPIES)
            async with httpx.AsyncClient(base_url=self.url, timeout=120, limits=limits) as client:
                copies = (client.post(path, json=body, headers=payment) for _ in range(COPIES))
                return list(await asyncio.gather(*copies))

        return asyncio.run(go())

    def receipts(self, payer: Signer) -> list[dict[str, Any]]:
        """Return what the log says about a payer, oldest first."""
        with self.http() as client:
            size = client.get("/v1/log").json()["size"]
            page = client.get("/v1/log/entries", params={"start": 0, "end": size}).json()
        bodies = [json.loads(entry)["body"] for entry in page["entries"]]
        found = [body["receipt"] for body in bodies if "receipt" in body]
        return [receipt for receipt in found if receipt["payment"]["payer"] == payer.address]

    def purse(self, owner: str) -> int:
        token = self.market.workspace.config.contracts.dev_usd or ""
        return balance(self.market.workspace.chain, token, owner)

    def offer(self, body: dict[str, Any], path: str, scheme: str) -> dict[str, Any]:
        with self.http() as client:
            demanded = header(client.post(path, json=body), "PAYMENT-REQUIRED")
        return next(entry for entry in demanded["accepts"] if entry["scheme"] == scheme)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with opened(tmp_path_factory.mktemp("retries")) as market:
        house = House(market, market.node)
        yield house
        house.node.stop()


@pytest.fixture
def wallet(house: House) -> Signer:
    return funded(house)


def funded(house: House) -> Signer:
    """Return a fresh wallet with ten dollars."""
    signer = Signer.random()
    token = house.market.workspace.config.contracts.dev_usd or ""
    deployer = house.market.workspace.signer("deployer")
    mint(house.market.workspace.chain, deployer, token, signer.address, 10 * ONE)
    return signer


class Channel:
    """A channel that pays by hand; `opening` is the payment that opens it, for `ask()`."""

    def __init__(self, house: House, wallet: Signer) -> None:
        self.house = house
        accepted = house.offer(ask(), CHAT_PATH, "batch-settlement")
        extra = accepted["extra"]
        terms = make_terms(
            token=Token(31337, accepted["asset"], extra["name"], extra["version"]),
            receiver=accepted["payTo"],
            receiver_authorizer=extra["receiverAuthorizer"],
            withdraw_delay=extra["withdrawDelay"],
        )
        self.payer = Payer(terms, wallet)
        deposit = self.payer.deposit_json(ONE, valid_before=int(time.time()) + 300)
        payload = self.payer.payload("deposit", int(accepted["amount"]), deposit=deposit)
        self.opening = wrap(accepted, payload)
        self.charged = 0

    def opened(self) -> Channel:
        self.charged = self.told(self.house.post(CHAT_PATH, ask(), self.opening))
        return self

    def told(self, answer: httpx.Response) -> int:
        state = header(answer, "PAYMENT-RESPONSE")["extra"]["channelState"]
        return int(state["chargedCumulativeAmount"])

    def pays(self, body: dict[str, Any], identifier: object = None) -> dict[str, str]:
        accepted = self.house.offer(body, CHAT_PATH, "batch-settlement")
        payload = self.payer.payload("voucher", self.charged + int(accepted["amount"]))
        return wrap(accepted, payload, identifier)

    def refund(self) -> httpx.Response:
        with self.house.http() as client:
            demanded = header(client.get(CHAT_PATH), "PAYMENT-REQUIRED")
            payment = wrap(demanded["accepts"][0], self.payer.payload("refund", self.charged))
            return client.get(CHAT_PATH, headers=payment)

    def state(self) -> dict[str, Any]:
        with self.house.http() as client:
            name = f"/v1/channels/0x{self.payer.channel_id.hex()}"
            return dict(client.get(name).json())


def name() -> str:
    return f"pay_{secrets.token_hex(16)}"


def same(answers: list[httpx.Response]) -> httpx.Response:
    """Require all answers to be equal, head and body; return one."""
    told = {
        (one.status_code, one.content, one.headers["content-type"], one.headers["payment-response"])
        for one in answers
    }
    assert len(told) == 1
    return answers[0]


@pytest.mark.parametrize(
    "identifier",
    ["", "short", "x" * 15, "x" * 129, "pay_with a space in it", "pay_ümlaute_sind_nicht", 17, []],
    ids=["empty", "short", "fifteen", "long", "space", "umlaut", "number", "list"],
)
def test_a_wrong_identifier_is_refused_before_anything_is_paid(
    house: House, wallet: Signer, identifier: object
) -> None:
    payment = exact(house.offer(FINE, CLASSIFY_PATH, "exact"), wallet, identifier)
    answer = house.post(CLASSIFY_PATH, FINE, payment)
    assert answer.status_code == 400
    assert "payment-identifier" in answer.json()["error"]["message"]
    assert house.purse(wallet.address) == 10 * ONE


def test_a_name_that_belongs_to_another_call_is_refused_and_costs_nothing(
    house: House, wallet: Signer
) -> None:
    accepted, id = house.offer(FINE, CLASSIFY_PATH, "exact"), name()
    payment = exact(accepted, wallet, id)
    first = house.post(CLASSIFY_PATH, FINE, payment)
    assert first.status_code == 200
    left = house.purse(wallet.address)
    other_body = house.post(CLASSIFY_PATH, FINE | {"input": "else"}, payment)
    other_payment = house.post(CLASSIFY_PATH, FINE, exact(accepted, wallet, id))
    other_route = house.post(CHAT_PATH, ask(), payment)
    for refused in (other_body, other_payment, other_route):
        assert refused.status_code == 409
        assert refused.json()["error"]["code"] == "payment_identifier_conflict"
        assert refused.headers["x-should-retry"] == "false"
        assert "payment-response" not in refused.headers
    assert house.purse(wallet.address) == left
    assert len(house.receipts(wallet)) == 1
    same([first, house.post(CLASSIFY_PATH, FINE, payment)])


def test_the_name_of_one_payer_means_nothing_to_another(house: House, wallet: Signer) -> None:
    accepted, id = house.offer(FINE, CLASSIFY_PATH, "exact"), name()
    other = house.market.workspace.signer("payer")
    for signer in (wallet, other):
        answer = house.post(CLASSIFY_PATH, FINE, exact(accepted, signer, id))
        assert header(answer, "PAYMENT-RESPONSE")["payer"] == signer.address


def test_fifty_copies_of_an_exact_payment_are_served_once_and_shown_the_receipt(
    house: House, wallet: Signer
) -> None:
    payment = exact(house.offer(FINE, CLASSIFY_PATH, "exact"), wallet)
    answers = house.at_once(CLASSIFY_PATH, FINE, payment)
    served = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(served) == 1
    # In progress, being settled, or answered: never a 402, which would have clients pay again.
    assert {answer.status_code for answer in refused} <= {409, 503}
    assert {answer.headers["x-should-retry"] for answer in refused} == {"false"}
    [receipt] = house.receipts(wallet)
    assert house.purse(wallet.address) == 10 * ONE - int(receipt["payment"]["charged"])
    late = house.post(CLASSIFY_PATH, FINE, payment)
    assert late.status_code == 409
    told = header(late, "PAYMENT-RESPONSE")
    assert told["transaction"] == receipt["payment"]["transaction"]
    signed = SignedReceipt.from_json(told["extensions"]["weightproof"])
    contracts = house.market.workspace.config.contracts
    domain = receipt_domain(contracts.chain_id, contracts.audit_anchor)
    assert verify_receipt(signed, node=house.node.address, domain=domain).to_json() == receipt
    assert signed.salts is None  # whoever read the payment on chain could test guesses with them


def test_fifty_copies_of_named_calls_get_one_answer_each_also_after_a_crash(
    house: House, wallet: Signer
) -> None:
    channel = Channel(house, wallet).opened()
    streamed = ask("stream", stream=True)
    calls = [
        (CLASSIFY_PATH, FINE, exact(house.offer(FINE, CLASSIFY_PATH, "exact"), wallet, name())),
        (CHAT_PATH, ask("named"), channel.pays(ask("named"), name())),
    ]
    answers = [house.at_once(*call) for call in calls]
    channel.charged = channel.told(answers[1][0])
    calls.append((CHAT_PATH, streamed, channel.pays(streamed, name())))
    answers.append([house.post(*calls[2])])
    unnamed = exact(house.offer(FINE, CLASSIFY_PATH, "exact"), wallet)
    assert house.post(CLASSIFY_PATH, FINE, unnamed).status_code == 200
    receipts, left = house.receipts(wallet), house.purse(wallet.address)
    assert [receipt["status"] for receipt in receipts] == ["ok"] * 5
    house.restart()
    for call, before in zip(calls, answers, strict=True):
        assert same([*before, *house.at_once(*call)]).status_code == 200
    assert same(house.at_once(CLASSIFY_PATH, FINE, unnamed)).status_code == 409
    assert answers[2][0].headers["content-type"].startswith("text/event-stream")
    assert (house.receipts(wallet), house.purse(wallet.address)) == (receipts, left)
    charged = [int(r["payment"]["charged"]) for r in receipts if r["payment"]["scheme"] != "exact"]
    assert int(channel.state()["cumulative"]) == sum(charged)


def test_fifty_copies_of_a_voucher_are_never_charged_above_its_ceiling(
    house: House, wallet: Signer
) -> None:
    channel = Channel(house, wallet).opened()
    answers = house.at_once(CHAT_PATH, ask("copied"), channel.pays(ask("copied")))
    served = [answer for answer in answers if answer.status_code == 200]
    assert served
    state = channel.state()
    receipts = house.receipts(wallet)
    assert len([r for r in receipts if r["status"] == "ok"]) == len(served) + 1
    total = sum(int(receipt["payment"]["charged"]) for receipt in receipts)
    assert int(state["cumulative"]) == total <= int(state["signedMax"])


def test_a_stream_that_broke_off_is_told_as_far_as_it_was_delivered_and_charged(
    house: House, wallet: Signer
) -> None:
    channel = Channel(house, wallet).opened()
    body = ask("leave", stream=True, max_tokens=1000)
    payment = channel.pays(body, name())
    with (
        house.http() as client,
        client.stream("POST", CHAT_PATH, json=body, headers=payment) as response,
    ):
        heard = next(response.iter_raw())
        head = response.headers["payment-response"]
    again = house.post(CHAT_PATH, body, payment)
    assert again.headers["payment-response"] == head
    assert again.content.startswith(heard)
    closing = json.loads(again.text.split("data: ")[-2])["weightproof"]["receipt"]
    [_, receipt] = house.receipts(wallet)
    assert closing == receipt
    assert receipt["status"] == "partial"
    assert int(receipt["payment"]["charged"]) < int(receipt["payment"]["quote"])


@contextmanager
def swallowing(house: House) -> Iterator[RpcProxy]:
    """Restart the node behind an endpoint that takes transactions and tells nothing of them."""
    with rpc_proxy(house.market.devnet.rpc_url) as proxy:
        text = house.market.config.read_text()
        config = house.market.config.with_name("swallowed.toml")
        config.write_text(text.replace(house.market.devnet.rpc_url, proxy.url))
        house.restart(config)
        error = {"code": -32000, "message": "the gateway timed out"}
        send, logs = refusing("eth_sendRawTransaction", error), refusing("eth_getLogs", error)
        proxy.bend = lambda question, answer: logs(question, send(question, answer))
        yield proxy
    house.restart()


def test_what_has_an_unknown_outcome_is_asked_of_the_chain_and_never_paid_again(
    house: House,
) -> None:
    stories = [_payments(house, funded(house)), _channels(house, funded(house), funded(house))]
    for story in stories:
        next(story)
    with swallowing(house) as proxy:
        for story in stories:
            next(story)
        proxy.clear()
        for story in stories:
            next(story)
    for story in stories:
        assert next(story, "told") == "told"


def _payments(house: House, wallet: Signer) -> Iterator[None]:
    yield  # the endpoint takes transactions and tells nothing of them
    accepted = house.offer(FINE, CLASSIFY_PATH, "exact")
    price, id = int(accepted["amount"]), name()
    first, second = exact(accepted, wallet, id), exact(accepted, wallet)
    for payment in (first, second, first, second):
        pending = house.post(CLASSIFY_PATH, FINE, payment)
        assert pending.status_code == 503
        assert pending.json()["error"]["code"] == "settlement_pending"
        assert pending.headers["x-should-retry"] == "false"
    assert house.purse(wallet.address) == 10 * ONE - 2 * price
    # Nor may a careless client pay afresh for the call that it named.
    assert house.post(CLASSIFY_PATH, FINE, exact(accepted, wallet, id)).status_code == 409
    # OpenAI's client repeats a 503 by itself, and below it a new payment would be made.
    with pytest.raises(openai.InternalServerError, match="do not pay again"):
        asyncio.run(_ask_by_sdk(house, wallet))
    asked = int(house.offer(ask(), CHAT_PATH, "exact")["amount"])
    left = 10 * ONE - 2 * price - asked
    assert house.purse(wallet.address) == left
    yield  # the endpoint answers again: the first is found when it is retried
    served = [house.post(CLASSIFY_PATH, FINE, first) for _ in range(2)]
    assert same(served).status_code == 200
    yield  # the node was killed: the second was found when it started
    served.append(house.post(CLASSIFY_PATH, FINE, second))
    assert served[-1].status_code == 200
    assert house.post(CLASSIFY_PATH, FINE, second).status_code == 409
    assert house.purse(wallet.address) == left
    receipts = house.receipts(wallet)
    assert [r["status"] for r in receipts] == ["failed"] * 3 + ["ok"] * 2
    assert [int(r["payment"]["charged"]) for r in receipts] == [0, 0, 0, price, price]
    for answer, receipt in zip(served[1:], receipts[3:], strict=True):
        told = header(answer, "PAYMENT-RESPONSE")
        assert told["transaction"] == receipt["payment"]["transaction"]


def _channels(house: House, depositor: Signer, leaver: Signer) -> Iterator[None]:
    leaving = Channel(house, leaver).opened()
    yield  # the endpoint takes transactions and tells nothing of them
    channel = Channel(house, depositor)
    for _ in range(2):
        pending = house.post(CHAT_PATH, ask(), channel.opening)
        assert pending.status_code == 503
        assert pending.json()["error"]["code"] == "settlement_pending"
        refund = leaving.refund()
        assert refund.status_code == 503
        assert "payment-required" not in refund.headers
    yield  # the endpoint answers again
    served = house.post(CHAT_PATH, ask(), channel.opening)
    assert served.status_code == 200
    [receipt] = house.receipts(depositor)
    assert house.purse(depositor.address) == 9 * ONE
    assert channel.told(served) == int(receipt["payment"]["charged"])
    yield  # the node was killed
    assert house.purse(leaver.address) == 10 * ONE - leaving.charged
    again = leaving.refund()
    assert header(again, "PAYMENT-REQUIRED")["error"].endswith("refund_no_balance")


async def _ask_by_sdk(house: House, wallet: Signer) -> None:
    rpc_url = house.market.devnet.rpc_url
    signer = EthAccountSignerWithRPC(Account.from_key(wallet.secret()), rpc_url)
    client = x402Client().register("eip155:31337", ExactEvmScheme(signer))
    client.set_spend_controls({"allowed_assets": True})
    http = httpx.AsyncClient(transport=x402_httpx_transport(client), timeout=60)
    async with openai.AsyncOpenAI(
        base_url=house.url + "/v1", api_key="not used", http_client=http
    ) as sdk:
        await sdk.chat.completions.create(**ask())


SCHEMES = ("batch-settlement", "exact")


def test_the_javascript_client_gets_its_lost_answers_after_a_crash(house: House) -> None:
    wallets = {scheme: funded(house) for scheme in SCHEMES}
    with ExitStack() as stack:
        clients = {
            scheme: stack.enter_context(_losing(house, wallet, scheme))
            for scheme, wallet in wallets.items()
        }
        before = {scheme: _line(client) for scheme, client in clients.items()}
        house.restart()
        for client in clients.values():
            assert client.stdin is not None
            client.stdin.write(house.url + CHAT_PATH + "\n")
            client.stdin.flush()
        after = {scheme: _line(client) for scheme, client in clients.items()}
    for scheme, wallet in wallets.items():
        lost, told = before[scheme]["lost"], after[scheme]
        assert "lost the answer" in before[scheme]["thrown"]
        assert lost["status"] == told["next"]["status"] == 200
        assert told["resent"] == lost
        assert len(house.receipts(wallet)) == 3
    # A voucher is signed alike each time. Of `exact` it signs a new authorisation: there the name
    # keeps it from paying again.
    assert after["batch-settlement"]["again"] == before["batch-settlement"]["lost"]
    assert after["exact"]["again"]["status"] == 409
    state = after["batch-settlement"]["settled"]["extra"]["channelState"]
    receipts = house.receipts(wallets["batch-settlement"])
    charged = sum(int(receipt["payment"]["charged"]) for receipt in receipts)
    assert int(state["chargedCumulativeAmount"]) == charged


def _losing(house: House, wallet: Signer, scheme: str) -> subprocess.Popen[str]:
    task = {
        "url": house.url + CHAT_PATH,
        "rpcUrl": house.market.devnet.rpc_url,
        "network": "eip155:31337",
        "key": "0x" + wallet.secret().hex(),
        "scheme": scheme,
        "bodies": [ask("first"), ask("lost")],
        "id": name(),
    }
    return subprocess.Popen(
        [str(NODE), "retry.mjs", json.dumps(task)],
        cwd=OFFICIAL,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _line(client: subprocess.Popen[str]) -> dict[str, Any]:
    assert client.stdout is not None
    return dict(json.loads(client.stdout.readline()))


def test_the_javascript_client_reads_for_free_what_its_wallet_bought(
    house: House, wallet: Signer
) -> None:
    id = name()
    payment = exact(house.offer(FINE, CLASSIFY_PATH, "exact"), wallet, id)
    bought = house.post(CLASSIFY_PATH, FINE, payment)
    [receipt] = house.receipts(wallet)
    left = house.purse(wallet.address)
    paths = ("/v1/usage", "/v1/receipts", f"/v1/answers/{id}", "/v1/answers/pay_of_nobody_ever")
    read = _sign_in(house, wallet, paths)
    for one in read[:3]:
        assert (one["signed"]["status"], one["replayed"]["status"]) == (200, 402)
        assert one["extended"] == one["signed"]
    usage, receipts, answer, nothing = (one["signed"] for one in read)
    assert answer["text"] == bought.text
    assert nothing["status"] == 404
    [bundle] = json.loads(receipts["text"])["receipts"]
    assert bundle["receipt"] == receipt
    assert set(bundle) == {"receipt", "signature", "salts"}
    assert json.loads(usage["text"])["usage"] == [
        {
            "day": time.strftime("%Y-%m-%d", time.gmtime(receipt["servedAt"])),
            "model": CLASSIFIER,
            "asset": receipt["payment"]["asset"],
            "status": "ok",
            "calls": 1,
            "inputTokens": receipt["tokens"]["input"],
            "outputTokens": 0,
            "charged": receipt["payment"]["charged"],
        }
    ]
    stranger = _sign_in(house, Signer.random(), paths)
    assert json.loads(stranger[0]["signed"]["text"])["usage"] == []
    assert json.loads(stranger[1]["signed"]["text"])["receipts"] == []
    assert stranger[2]["signed"]["status"] == 404
    assert house.purse(wallet.address) == left


def _sign_in(house: House, wallet: Signer, paths: tuple[str, ...]) -> list[dict[str, Any]]:
    task = {
        "urls": [house.url + path for path in paths],
        "key": "0x" + wallet.secret().hex(),
        "network": "eip155:31337",
    }
    done = subprocess.run(
        [str(NODE), "wallet.mjs", json.dumps(task)],
        cwd=OFFICIAL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["payments"] == 0
    return list(told["results"])
