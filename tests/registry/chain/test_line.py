"""A key's line of transactions, on a chain that mines when told to: raised, filled, decided."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from eth_account import Account

from registry.chain.block import TxReceipt
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment, deploy
from registry.chain.devnet import Devnet
from registry.chain.fees import GWEI, FeePolicy, Fees, Market
from registry.chain.nonces import MemoryBook, Outcome
from registry.chain.signed import Sent
from registry.errors import ChainError, GasTooDearError, TransactionUnknownError
from registry.signing.signer import Signer
from tests.fakes.rpc_proxy import rpc_proxy
from tests.registry.chain.rpc_server import Answer, body, error, pass_on, rpc_server

CAP = 1_000 * GWEI
RAISING = FeePolicy(cap=CAP, replace_after_s=0)


class Book(MemoryBook):
    """Remembers how every version ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[tuple[Sent, Outcome]] = []

    def end(self, sent: Sent, outcome: Outcome) -> None:
        self.ends.append((sent, outcome))
        super().end(sent, outcome)


class Line:
    """A key of its own that mints tokens; it looks once for each outcome and does not wait."""

    def __init__(self, devnet: Devnet, deployment: Deployment, url: str = "") -> None:
        self.devnet = devnet
        self.signer = Signer.random()
        self.token = str(deployment.dev_usd)
        self.book = Book()
        self.url = url or devnet.rpc_url
        self.chain = self.open(RAISING)
        devnet.chain.rpc("anvil_setBalance", self.signer.address, hex(10**20))

    def open(self, policy: FeePolicy, *, wait_s: float = 0.0) -> Chain:
        chain = Chain(self.url, chain_id=31337, receipt_timeout_s=wait_s, fees=policy)
        chain.keep(self.book)
        return chain

    def mint(self, chain: Chain | None = None, gas: int = 100_000) -> TxReceipt:
        used = chain or self.chain
        token = used.contract("DevUSD", self.token)
        return used.send(self.signer, token.functions.mint(self.signer.address, 1), gas)

    def leave(self) -> Sent:
        """Send what is not mined; its version."""
        with pytest.raises(TransactionUnknownError) as caught:
            self.mint()
        return next(s for s in self.line() if s.hash == caught.value.tx_hash)

    def line(self) -> list[Sent]:
        return list(self.book.line(self.signer.address))

    def follow(self) -> None:
        self.chain.follow(self.signer)

    def minted(self) -> int:
        token = self.devnet.chain.contract("DevUSD", self.token)
        return int(self.devnet.chain.call(token.functions.balanceOf(self.signer.address)))

    def count(self, block: str = "latest") -> int:
        found = self.devnet.chain.rpc("eth_getTransactionCount", self.signer.address, block)
        return int(found, 16)

    def base_fee(self, gwei: int) -> None:
        self.devnet.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(gwei * GWEI))

    def other_program(self, nonce: int, gwei: int) -> str:
        """Send something of the same key that our book does not know; its hash."""
        fields = {
            "type": 2,
            "chainId": 31337,
            "nonce": nonce,
            "gas": 21_000,
            "to": self.signer.address,
            "value": 0,
            "maxFeePerGas": gwei * GWEI,
            "maxPriorityFeePerGas": gwei * GWEI,
        }
        signed: Any = Account.sign_transaction(fields, self.signer.secret())
        raw = f"0x{signed.raw_transaction.hex()}"
        return str(self.devnet.chain.rpc("eth_sendRawTransaction", raw))


@pytest.fixture(scope="module")
def devnet() -> Iterator[Devnet]:
    """One of this file's own: a base fee that was set outlives a snapshot."""
    with Devnet.start() as devnet:
        yield devnet


@pytest.fixture(scope="module")
def deployment(devnet: Devnet, signers: list[Signer]) -> Deployment:
    return deploy(devnet.chain, signers[0])


@pytest.fixture
def quiet(devnet: Devnet, deployment: Deployment) -> Iterator[Devnet]:
    """The devnet, mining only when it is told to."""
    devnet.chain.rpc("evm_setAutomine", False)
    devnet.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
    yield devnet
    devnet.chain.rpc("anvil_dropAllTransactions")
    devnet.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
    devnet.chain.rpc("evm_setAutomine", True)
    devnet.mine()


@pytest.fixture
def line(quiet: Devnet, deployment: Deployment) -> Line:
    return Line(quiet, deployment)


def test_gas_that_costs_more_than_the_settings_allow_is_not_bought(line: Line) -> None:
    line.base_fee(2_000)
    line.devnet.mine()
    with pytest.raises(GasTooDearError) as caught:
        line.mint()
    assert caught.value.price > caught.value.cap == CAP
    assert (line.line(), line.count("pending")) == ([], 0)


@pytest.mark.parametrize(
    ("before", "market"),
    [(Fees(1, 95), Market(1, 1)), (Fees(95, 95), Market(1, 1)), (Fees(95, 100), Market(90, 99))],
)
def test_an_offer_that_the_cap_leaves_no_room_to_raise_stays(before: Fees, market: Market) -> None:
    assert FeePolicy(cap=100).raised(before, market) is None


@pytest.mark.parametrize(
    ("before", "market"),
    [
        (Fees(0, 2), Market(0, 0)),
        (Fees(1, 1), Market(0, 0)),
        (Fees(10**9, 3 * 10**9 + 7), Market(10**9, 10**9)),
    ],
)
def test_an_offer_is_raised_as_far_as_every_client_demands(before: Fees, market: Market) -> None:
    after = FeePolicy(cap=CAP).raised(before, market)
    assert after is not None
    assert after.tip > before.tip
    assert after.tip * 10 >= before.tip * 11
    assert after.most * 10 >= before.most * 11


def test_where_nothing_is_mined_an_offer_stays_within_a_few_times_the_market() -> None:
    policy, market = FeePolicy(cap=CAP), Market(GWEI // 10, GWEI // 100)
    last = policy.first(market)
    while (more := policy.raised(last, market)) is not None:
        last = more
    assert last.most <= 8 * (market.base_fee + market.tip)
    assert last.tip <= 8 * market.tip


def test_an_offer_is_raised_at_once_to_what_the_chain_asks_now() -> None:
    after = FeePolicy(cap=CAP).raised(Fees(1, 10), Market(50 * GWEI, GWEI))
    assert after == Fees(GWEI, 101 * GWEI)


def test_what_is_not_mined_in_time_is_raised_under_its_nonce_and_happens_once(line: Line) -> None:
    first = line.leave()
    line.follow()
    line.follow()
    versions = line.line()
    assert [v.nonce for v in versions] == [first.nonce] * 3
    assert len({v.hash for v in versions}) == 3
    line.devnet.mine()
    line.follow()
    assert line.book.ends == [(versions[-1], "mined")]
    assert (line.minted(), line.count(), line.line()) == (1, 1, [])


def test_an_offer_below_a_base_fee_that_rose_is_raised_above_it(line: Line) -> None:
    first = line.leave()
    line.base_fee(100)
    line.devnet.mine()
    assert line.minted() == 0
    line.follow()
    assert line.line()[-1].fees.most > 100 * GWEI > first.fees.most
    line.devnet.mine()
    line.follow()
    assert (line.minted(), line.line()) == (1, [])


def test_whoever_waits_gets_the_receipt_of_the_version_that_was_mined(line: Line) -> None:
    patient = line.open(FeePolicy(cap=30 * GWEI, replace_after_s=0), wait_s=30)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(line.mint, patient)
        while len(line.line()) < 2 and not sending.done():
            pass
        line.devnet.mine()
        receipt = sending.result()
    [(sent, outcome)] = line.book.ends
    assert (sent.hash, outcome) == (receipt.hash, "mined")
    assert line.minted() == 1


def test_the_first_version_counts_when_it_is_mined_after_all(
    quiet: Devnet, deployment: Deployment
) -> None:
    refusals: list[Answer] = []

    def front(handler: BaseHTTPRequestHandler, question: dict[str, object]) -> None:
        sends = question["method"] == "eth_sendRawTransaction"
        refused = sends and refusals
        answer = refusals[0] if refused else body(pass_on(quiet.rpc_url, question))
        answer(handler, question)

    with rpc_server(front) as url:
        line = Line(quiet, deployment, url)
        first = line.leave()
        refusals.append(error("replacement transaction underpriced"))
        line.follow()
        assert len(line.line()) == 2
        quiet.mine()
        line.follow()
        assert line.book.ends == [(first, "mined")]
        assert line.minted() == 1


def test_what_fell_out_of_the_pool_is_offered_again_before_anything_behind_it(line: Line) -> None:
    first = line.leave()
    line.devnet.chain.rpc("anvil_dropTransaction", f"0x{first.hash.hex()}")
    assert line.count("pending") == 0
    second = line.leave()
    assert second.nonce == first.nonce + 1
    line.devnet.mine()
    line.follow()
    assert [(sent, end) for sent, end in line.book.ends] == [(first, "mined"), (second, "mined")]
    assert line.minted() == 2


def test_what_fell_out_of_the_pool_is_offered_again_though_nothing_comes_behind_it(
    line: Line,
) -> None:
    first = line.leave()
    line.devnet.chain.rpc("anvil_dropTransaction", f"0x{first.hash.hex()}")
    line.follow()
    line.devnet.mine()
    assert line.minted() == 1


def test_a_nonce_that_another_program_left_behind_is_filled(line: Line) -> None:
    theirs = line.other_program(0, gwei=5)
    ours = line.leave()
    assert ours.nonce == 1
    line.devnet.chain.rpc("anvil_dropTransaction", theirs)
    line.devnet.mine()
    assert line.minted() == 0
    line.follow()
    assert line.line()[0].doing == "fill"
    line.devnet.mine()
    line.follow()
    assert (line.minted(), line.count(), line.line()) == (1, 2, [])


def test_a_nonce_that_another_program_used_is_lost_only_when_that_is_final(line: Line) -> None:
    ours = line.leave()
    line.other_program(0, gwei=50)
    line.devnet.mine()
    line.follow()
    assert (line.count(), line.book.ends) == (1, [])
    line.devnet.mine(3)
    line.follow()
    assert [end for _, end in line.book.ends] == ["lost"]
    assert {sent.nonce for sent, _ in line.book.ends} == {ours.nonce}
    assert (line.minted(), line.line()) == (0, [])


def test_what_is_mined_and_reverts_has_failed(line: Line) -> None:
    with pytest.raises(TransactionUnknownError):
        line.mint(gas=30_000)
    line.devnet.mine()
    line.follow()
    assert [end for _, end in line.book.ends] == ["failed"]
    assert line.line() == []


def test_an_endpoint_that_answers_nothing_decides_nothing(
    quiet: Devnet, deployment: Deployment
) -> None:
    with rpc_proxy(quiet.rpc_url) as proxy:
        line = Line(quiet, deployment, proxy.url)
        line.leave()
        quiet.mine()
        proxy.dark = True
        with pytest.raises(ChainError):
            line.follow()
        assert (line.book.ends, len(line.line())) == ([], 1)
        proxy.dark = False
        line.follow()
        assert [end for _, end in line.book.ends] == ["mined"]


def test_two_connections_with_one_key_take_each_nonce_once(
    devnet: Devnet, deployment: Deployment
) -> None:
    line = Line(devnet, deployment)
    chains = [line.open(FeePolicy(), wait_s=30) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(line.mint, chains * 8))
    assert (line.minted(), line.count()) == (16, 16)
