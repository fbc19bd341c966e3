"""Lies about money: overcharges, double charges, claims and transfers that were not owed or made.

Channels, claims and transfers are real, on a real chain.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from inference.audit.bodies import SettlementBody, entry_of
from inference.audit.report import CheckResult
from inference.payments.channel import DepositPayment
from inference.payments.claim import Claim
from inference.receipt_format import ReceiptFacts
from inference.receipts import receipt_domain, verify_receipt
from registry.chain.block import TxReceipt
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.errors import TransactionFailedError
from registry.signing.signer import Signer
from tests.inference.audited_node import COST, FUNDER, QUOTE, AuditedNode, Model, World
from tests.inference.payments.payer import NODE as AUTHORIZER
from tests.inference.payments.payer import Payer, make_terms
from tests.inference.receipt_samples import CHANNEL, STRANGER


@pytest.fixture(scope="module")
def world(chain: Chain, deployment: Deployment) -> World:
    return World(chain, deployment)


@pytest.fixture(scope="module")
def model(world: World) -> Model:
    return world.register(secrets.token_bytes(32))


@pytest.fixture
def node(world: World, model: Model, tmp_path: Path) -> AuditedNode:
    return AuditedNode.open(world, model, tmp_path)


@dataclass(frozen=True)
class Wallet:
    """A payer with money on the devnet, and a channel of its own."""

    world: World
    payer: Payer

    @property
    def channel(self) -> bytes:
        return self.payer.channel_id

    def deposit(self, amount: int) -> None:
        payment = self.payer.deposits(QUOTE, amount, now=int(time.time())).payment
        assert isinstance(payment, DepositPayment)
        self.world.channels.deposit(FUNDER, payment, collector=self.payer.terms.collector)

    def claimed(self, total: int, ceiling: int) -> TxReceipt:
        """Have the node claim `total` under a voucher for `ceiling`."""
        voucher = self.payer.pays(ceiling, now=int(time.time())).payment.voucher
        claim = Claim(
            channel_id="0x" + self.channel.hex(),
            config=self.payer.config,
            max_claimable=ceiling,
            signature=voucher.signature,
            total=total,
            claimed=0,
            withdraw_requested_at=0,
        )
        return self.world.channels.claim(FUNDER, AUTHORIZER, [claim])

    def transfer(self, amount: int) -> tuple[TxReceipt, bytes]:
        """Pay exactly; returns the transaction and the authorisation's nonce."""
        until = int(time.time()) + 3600
        signed = self.payer.authorize(value=amount, valid_before=until)
        return self.world.token.transfer(FUNDER, signed), signed.nonce


@pytest.fixture
def wallet(world: World) -> Wallet:
    payer = Payer(make_terms(token=world.token.token()), Signer.random(), secrets.token_bytes(32))
    mint = world.chain.contract("DevUSD", world.token.address).functions.mint
    world.chain.send(FUNDER, mint(payer.key.address, 10**6))
    return Wallet(world, payer)


def finding(node: AuditedNode) -> CheckResult:
    report = node.audit()
    assert [check.number for check in report.failed] == [5], report.to_json()
    assert report.failed[0].evidence
    return report.failed[0]


def exact(node: AuditedNode, wallet: Wallet, **payment: Any) -> ReceiptFacts:
    """Return the facts of an `exact` call; keywords change what the node says of its payment."""
    said = {"scheme": "exact", "channel": bytes(32), "payer": wallet.payer.key.address}
    said |= {"pay_to": wallet.payer.terms.receiver, "charged": QUOTE, "cumulative": QUOTE}
    return node.facts(**(said | payment))


# charges


@pytest.mark.parametrize(
    ("payment", "reason"),
    [
        ({"charged": COST + 1}, f"charged {COST + 1}, price and tokens make it {COST}"),
        ({"charged": QUOTE + 1}, f"more than the {QUOTE} quoted"),
        ({"quote": QUOTE + 1}, f"quoted {QUOTE + 1}, the price makes it {QUOTE}"),
        ({"network": "eip155:1"}, "paid on eip155:1"),
        ({"channel": bytes(32), "scheme": "none"}, "charged without a channel"),
    ],
)
def test_a_charge_of_one_unit_too_much_is_caught(
    node: AuditedNode, payment: dict[str, Any], reason: str
) -> None:
    node.sell()
    lie = node.sell(node.facts(**payment))
    check = finding(node)
    assert reason in check.detail
    assert check.evidence["receipt"] == lie.public()


def test_token_counts_inflated_beyond_the_limit_are_caught(node: AuditedNode) -> None:
    facts = node.facts()
    node.sell(replace(facts, tokens=replace(facts.tokens, output=9)))
    assert "9 tokens came out, 8 were allowed" in finding(node).detail


@pytest.mark.parametrize("status", ["refused", "failed"])
def test_a_charge_without_an_answer_is_caught(node: AuditedNode, status: str) -> None:
    node.sell(replace(node.facts(), status=status))
    assert f"a {status} call was charged" in finding(node).detail


def test_a_charge_booked_twice_is_caught(node: AuditedNode) -> None:
    first = node.sell()
    second = node.sell(node.facts(cumulative=3 * COST))
    check = finding(node)
    assert f"had {COST}, this call cost {COST}, and the receipt says {3 * COST}" in check.detail
    assert check.evidence == {"receipt": second.public(), "before": first.public()}


def test_a_channel_that_begins_with_a_debt_is_caught(node: AuditedNode) -> None:
    node.sell(node.facts(cumulative=COST + 1))
    assert f"had 0, this call cost {COST}" in finding(node).detail


# the ledger


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({"cumulative": str(COST + 1)}, f"the ledger says {COST + 1}, its receipts add up to"),
        ({"cumulative": "0"}, "the ledger says 0"),
        ({"signedMax": str(COST - 1)}, f"the payer signed {COST - 1}"),
        ({"size": 0}, "as of entry 0, before the 1 audited"),
        ({"size": 9}, "0 entries for 8"),
        ({"channelId": "0x" + "00" * 32}, "the state of another channel"),
        ({"cumulative": -1}, "cumulative"),
        ({"note": "hi"}, "field 'note' is unknown"),
    ],
)
def test_a_ledger_that_disagrees_with_the_receipts_is_caught(
    node: AuditedNode, lie: dict[str, Any], reason: str
) -> None:
    node.sell()
    node.show["ledger"] = lambda honest: honest | lie
    assert reason in finding(node).detail


def test_a_ledger_that_hides_a_channel_is_caught(node: AuditedNode) -> None:
    node.sell()
    node.owed.clear()
    assert finding(node).evidence["status"] == 404


def test_a_lie_told_while_the_audit_runs_is_caught(node: AuditedNode) -> None:
    """The ledger is read after the checkpoint; what was logged in between is audited too."""
    node.sell()

    def sell_dearly(honest: dict[str, Any]) -> dict[str, Any]:
        node.show.clear()
        node.sell(node.facts(charged=COST + 1))
        cumulative = str(node.owed[CHANNEL])
        return honest | {"size": 2, "cumulative": cumulative, "signedMax": cumulative}

    node.show["ledger"] = sell_dearly
    assert f"charged {COST + 1}, price and tokens" in finding(node).detail


# claims


def test_a_claim_in_the_log_above_the_receipts_is_caught(node: AuditedNode) -> None:
    last = node.sell()
    node.claim(CHANNEL, COST)
    assert node.audit().ok
    node.claim(CHANNEL, COST + 1)
    check = finding(node)
    assert f"entry 2 claims {COST + 1} of a channel that owed {COST}" in check.detail
    assert check.evidence["lastReceipt"] == last.public()


def test_a_claim_on_chain_above_the_receipts_is_caught(node: AuditedNode, wallet: Wallet) -> None:
    """The voucher covers it, so the contract pays: only the receipts show that it is too much."""
    wallet.deposit(10_000)
    last = node.sell(node.facts(channel=wallet.channel))
    wallet.claimed(COST + 1, ceiling=QUOTE)
    check = finding(node)
    assert f"{COST + 1} were claimed on chain, {COST} are owed" in check.detail
    assert check.evidence["totalClaimed"] == str(COST + 1)
    assert check.evidence["lastReceipt"] == last.public()


@pytest.mark.parametrize("action", ["settle", "refund"])
def test_a_settlement_in_the_log_that_never_was_is_caught(
    node: AuditedNode, wallet: Wallet, action: str
) -> None:
    node.sell()
    tx, _ = wallet.transfer(QUOTE)
    asset = node.world.token.address
    told = SettlementBody(action, asset, QUOTE, (), tx.hash, tx.block, tx.gas_used)
    node.write(entry_of(1, told))
    assert node.audit().ok
    for lie in (replace(told, amount=QUOTE + 1), replace(told, transaction=b"\x13" * 32)):
        node.write(entry_of(node.database.read(node.log.size), lie))
        assert f"entry 2 tells of a {action} of" in finding(node).detail


# exact payments


def test_an_authorisation_that_was_never_spent_is_caught(node: AuditedNode, wallet: Wallet) -> None:
    node.sell(exact(node, wallet, nonce=secrets.token_bytes(32)))
    assert "was never spent on chain" in finding(node).detail


def test_one_authorisation_charged_twice_is_caught(node: AuditedNode, wallet: Wallet) -> None:
    tx, nonce = wallet.transfer(QUOTE)
    first = node.sell(exact(node, wallet, nonce=nonce, transaction=tx.hash))
    second = node.sell(exact(node, wallet, nonce=nonce, transaction=tx.hash))
    check = finding(node)
    assert "one authorisation was charged twice" in check.detail
    assert check.evidence == {"receipt": second.public(), "before": first.public()}


def test_a_transaction_that_moved_another_amount_is_caught(
    node: AuditedNode, wallet: Wallet
) -> None:
    tx, nonce = wallet.transfer(QUOTE - 1)
    node.sell(exact(node, wallet, nonce=nonce, transaction=tx.hash))
    assert f"its transaction did not move {QUOTE}" in finding(node).detail


def test_a_transaction_that_never_was_is_caught(node: AuditedNode, wallet: Wallet) -> None:
    _, nonce = wallet.transfer(QUOTE)
    node.sell(exact(node, wallet, nonce=nonce, transaction=b"\x01" * 32))
    assert "did not move" in finding(node).detail


def test_a_payment_in_a_token_that_is_none_is_caught(
    world: World, node: AuditedNode, wallet: Wallet
) -> None:
    node.sell(exact(node, wallet, asset=STRANGER.address))
    assert "there is no DevUSD contract" in finding(node).detail


def test_a_payment_in_a_contract_that_is_no_token_is_caught(
    world: World, node: AuditedNode, wallet: Wallet
) -> None:
    node.sell(exact(node, wallet, asset=world.deployment.model_registry))
    assert "authorizationState" in finding(node).detail


def test_a_transaction_that_failed_is_caught(
    world: World, node: AuditedNode, wallet: Wallet
) -> None:
    _, nonce = wallet.transfer(QUOTE)
    functions = world.chain.contract("DevUSD", world.token.address).functions
    head = world.chain.head().number
    with pytest.raises(TransactionFailedError):
        world.chain.send(FUNDER, functions.transfer(STRANGER.address, 10**60), gas=100_000)
    block = world.chain.rpc("eth_getBlockByNumber", hex(head + 1), False)
    failed = bytes.fromhex(block["transactions"][0][2:])
    node.sell(exact(node, wallet, nonce=nonce, transaction=failed))
    assert "reverted" in finding(node).detail


def test_an_exact_payment_that_charges_the_use_instead_of_the_quote_is_caught(
    node: AuditedNode, wallet: Wallet
) -> None:
    node.sell(exact(node, wallet, charged=COST, cumulative=COST, nonce=b"\x01" * 32))
    assert f"make it {QUOTE}" in finding(node).detail


def test_a_sum_over_an_exact_payment_is_caught(node: AuditedNode, wallet: Wallet) -> None:
    tx, nonce = wallet.transfer(QUOTE)
    node.sell(exact(node, wallet, nonce=nonce, transaction=tx.hash, cumulative=2 * QUOTE))
    assert f"cumulative {2 * QUOTE} is not {QUOTE}" in finding(node).detail


# the honest node


def test_honest_books_agree_while_the_node_works_on(node: AuditedNode, wallet: Wallet) -> None:
    wallet.deposit(10_000)
    sold = [node.sell(node.facts(channel=wallet.channel)) for _ in range(3)]
    node.sell(replace(node.facts(charged=0, channel=wallet.channel), status="failed"))
    node.sell(replace(node.facts(charged=0, channel=wallet.channel), status="refused"))
    wallet.claimed(2 * COST, ceiling=2 * COST + QUOTE)
    node.claim(wallet.channel, 2 * COST)
    tx, nonce = wallet.transfer(QUOTE)
    sold.append(node.sell(exact(node, wallet, nonce=nonce, transaction=tx.hash)))
    _, unnamed = wallet.transfer(QUOTE)
    sold.append(node.sell(exact(node, wallet, nonce=unnamed)))
    node.anchor()

    def work_on(honest: dict[str, Any]) -> dict[str, Any]:
        node.show.clear()
        node.sell(node.facts(channel=wallet.channel))
        cumulative = str(node.owed[wallet.channel])
        return honest | {"size": 9, "cumulative": cumulative, "signedMax": cumulative}

    node.show["ledger"] = work_on
    report = node.audit()
    assert report.ok, report.to_json()
    assert report.checks[4].detail == (
        f"{3 * COST + 2 * QUOTE} charged; 1 channels agree with ledger and chain, "
        f"{2 * COST} unclaimed; 2 exact payments were transferred"
    )
    domain = receipt_domain(31337, node.world.deployment.audit_anchor)
    for signed in sold:
        verify_receipt(signed, node=node.key.address, domain=domain)
