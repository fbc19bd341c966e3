"""What is said of a transaction when the endpoint in front of the chain stumbles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from registry.chain.block import TxReceipt
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.chain.devnet import Devnet
from registry.chain.model_registry import ModelRegistry
from registry.errors import ChainError, TransactionFailedError, TransactionUnknownError
from registry.record import Kind
from registry.signing.signer import Signer
from tests.registry.chain.rpc_server import Answer, body, error, pass_on, result, rpc_server

SEND = "eth_sendRawTransaction"
COUNT = "eth_getTransactionCount"
RECEIPT = "eth_getTransactionReceipt"
DIGEST = b"\x01" * 32


class Front:
    """A node in front of the devnet: it answers `answers` itself, by method, in order.

    `takes` says whether the transactions it answers for itself reach the devnet all the same.
    """

    def __init__(self, devnet: Devnet, answers: dict[str, list[Answer]], *, takes: bool) -> None:
        self._devnet = devnet
        self._answers = answers
        self._takes = takes
        self.asked: Counter[str] = Counter()

    def __call__(self, handler: BaseHTTPRequestHandler, question: dict[str, object]) -> None:
        method = str(question["method"])
        self.asked[method] += 1
        if not self._answers.get(method):
            body(pass_on(self._devnet.rpc_url, question))(handler, question)
            return
        if method == SEND and self._takes:
            pass_on(self._devnet.rpc_url, question)
        self._answers[method].pop(0)(handler, question)


class Desk:
    """Sends a registration through a `Front`, and counts what the devnet made of it."""

    def __init__(self, devnet: Devnet, deployment: Deployment, signer: Signer) -> None:
        self._devnet = devnet
        self._deployment = deployment
        self.signer = signer
        self.asked: Counter[str] = Counter()

    def send(
        self, *, takes: bool = True, gas: int | None = None, **answers: list[Answer]
    ) -> TxReceipt:
        front = Front(self._devnet, answers, takes=takes)
        self.asked = front.asked
        with rpc_server(front) as url:
            chain = Chain(url, receipt_timeout_s=0.5)
            contract = ModelRegistry(chain, self._deployment.model_registry)._contract()
            call = contract.functions.register(int(Kind.DATASET), DIGEST, [])
            return chain.send(self.signer, call, gas)

    def nonce(self) -> int:
        """How many transactions of the sender are mined or waiting."""
        return int(self._devnet.chain.rpc(COUNT, self.signer.address, "pending"), 16)

    @contextmanager
    def sends_once(self) -> Iterator[None]:
        before = self.nonce()
        yield
        assert self.nonce() == before + 1


@pytest.fixture
def desk(restored: Devnet, deployment: Deployment, signers: list[Signer]) -> Desk:
    return Desk(restored, deployment, signers[1])


@pytest.mark.parametrize(
    "words",
    [
        "insufficient funds for gas * price + value: balance 0, tx cost 1",
        "InsufficientFunds, Account balance: 0, cumulative cost: 1",
        "intrinsic gas too low: have 5, want 21000",
        "exceeds block gas limit",
        "tx fee (2.10 ether) exceeds the configured cap (1.00 ether)",
        "max fee per gas less than block base fee: address 0x00, maxFeePerGas: 1, baseFee: 7",
    ],
)
def test_a_transaction_that_the_node_did_not_take_failed(desk: Desk, words: str) -> None:
    before = desk.nonce()
    with pytest.raises(TransactionFailedError) as caught:
        desk.send(takes=False, eth_sendRawTransaction=[error(words)])
    assert caught.value.reason == words
    assert desk.asked[SEND] == 1
    assert desk.nonce() == before


def test_a_transaction_that_reverts_before_it_is_sent_failed_and_was_not_sent(desk: Desk) -> None:
    desk.send()
    with pytest.raises(TransactionFailedError) as caught:
        desk.send()
    assert caught.value.error == "AlreadyRegistered"
    assert desk.asked[SEND] == 0


def test_a_sender_whose_nonces_are_always_taken_is_refused(desk: Desk) -> None:
    before = desk.nonce()
    with pytest.raises(TransactionFailedError, match="keeps taking the nonces"):
        desk.send(takes=False, eth_sendRawTransaction=[error("nonce too low")] * 5)
    assert desk.nonce() == before


@pytest.mark.parametrize(
    "answer",
    [
        error("upstream request timeout"),
        error("header not found"),
        error("txpool is full"),
        error("transaction underpriced"),
        error("execution reverted", 3),
        error("request limit reached", -32005),
        error("the method eth_sendRawTransaction does not exist", -32601),
        body(b"bad gateway", status=502),
        body(b'{"jsonrpc":"2.0","id":1,"error":"no"}'),
        body(b'{"jsonrpc":"2.0","id":1,"error":null}'),
        result([]),
        result(7.5),
    ],
)
@pytest.mark.parametrize("takes", [True, False])
def test_any_other_answer_to_a_sent_transaction_leaves_its_outcome_unknown(
    desk: Desk, restored: Devnet, answer: Answer, takes: bool
) -> None:
    before = desk.nonce()
    with pytest.raises(TransactionUnknownError) as caught:
        desk.send(takes=takes, eth_sendRawTransaction=[answer])
    assert desk.asked[SEND] == 1
    assert desk.nonce() == before + takes
    assert (restored.chain.receipt(caught.value.tx_hash) is not None) is takes


def test_what_the_endpoint_said_is_told(desk: Desk) -> None:
    with pytest.raises(TransactionUnknownError, match="answered: upstream request timeout"):
        desk.send(eth_sendRawTransaction=[error("upstream request timeout")])


def test_a_lookup_that_fails_after_a_taken_nonce_leaves_the_outcome_unknown(desk: Desk) -> None:
    with desk.sends_once(), pytest.raises(TransactionUnknownError):
        desk.send(
            eth_sendRawTransaction=[error("nonce too low")],
            eth_getTransactionByHash=[error("upstream request timeout")],
        )


@pytest.mark.parametrize("words", ["header not found", "upstream request timeout", "reverted"])
def test_an_endpoint_that_never_shows_the_receipt_leaves_the_outcome_unknown(
    desk: Desk, restored: Devnet, words: str
) -> None:
    with desk.sends_once(), pytest.raises(TransactionUnknownError) as caught:
        desk.send(eth_getTransactionReceipt=[error(words)] * 1_000)
    assert restored.chain.receipt(caught.value.tx_hash) is not None


def test_a_transaction_that_is_mined_and_reverts_failed_even_when_nobody_says_why(
    desk: Desk,
) -> None:
    desk.send()
    with desk.sends_once(), pytest.raises(TransactionFailedError, match="mined in 0x"):
        desk.send(gas=200_000, eth_call=[error("header not found")])


@pytest.mark.parametrize(
    "stumble",
    [error("header not found"), error("unknown block"), body(b"", status=503), result({})],
)
def test_a_receipt_is_waited_for_while_the_endpoint_stumbles(desk: Desk, stumble: Answer) -> None:
    with desk.sends_once():
        receipt = desk.send(eth_getTransactionReceipt=[stumble] * 3)
    assert receipt.logs
    assert desk.asked[RECEIPT] == 4


@pytest.mark.parametrize(
    "words",
    ["already known", "AlreadyKnown", "transaction already imported", "existing tx with same hash"],
)
def test_a_transaction_that_is_known_already_is_waited_for_and_not_signed_again(
    desk: Desk, words: str
) -> None:
    with desk.sends_once():
        receipt = desk.send(eth_sendRawTransaction=[error(words)])
    assert receipt.logs
    assert desk.asked[SEND] == 1


def test_a_transaction_that_was_mined_while_it_was_sent_twice_is_not_signed_again(
    desk: Desk,
) -> None:
    with desk.sends_once():
        receipt = desk.send(eth_sendRawTransaction=[error("nonce too low")])
    assert receipt.logs
    assert desk.asked[SEND] == 1


def test_a_nonce_that_another_program_took_is_fetched_again(desk: Desk) -> None:
    with desk.sends_once():
        desk.send(takes=False, eth_sendRawTransaction=[error("nonce too low")])
    assert desk.asked[SEND] == 2


def test_an_endpoint_that_fails_before_anything_is_sent_is_no_unknown_outcome(desk: Desk) -> None:
    before = desk.nonce()
    with pytest.raises(ChainError) as caught:
        desk.send(eth_getTransactionCount=[error("header not found")])
    assert not isinstance(caught.value, TransactionUnknownError)
    assert desk.nonce() == before
