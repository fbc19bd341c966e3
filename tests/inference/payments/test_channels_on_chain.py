"""Channels on a real chain: deposit, claim, settle, refund, and what the contract refuses."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace

import pytest

from inference.database import Database
from inference.errors import PaymentRefusedError
from inference.payments.channel import DepositPayment
from inference.payments.channels_contract import ChannelsContract
from inference.payments.ledger import ChannelLedger
from inference.payments.token_contract import TokenContract
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.chain.devnet import Devnet
from registry.errors import ChainMismatchError, ChainUnreachableError, TransactionFailedError
from registry.signing.signer import Signer
from tests.inference.payments.payer import NODE, RECEIVER, Payer, make_terms

FUNDER = Signer.anvil(0, chain_id=31337)
LEDGER = ChannelLedger()


@pytest.fixture
def channels(devnet: Devnet, deployment: Deployment) -> ChannelsContract:
    return ChannelsContract(devnet.chain, deployment.payment_channels)


@pytest.fixture
def token(devnet: Devnet, deployment: Deployment) -> TokenContract:
    assert deployment.dev_usd is not None
    return TokenContract(devnet.chain, deployment.dev_usd)


@pytest.fixture
def payer(devnet: Devnet, deployment: Deployment, token: TokenContract) -> Payer:
    """A fresh key with a million atomic units and a channel nobody used."""
    payer = Payer(make_terms(token=token.token()), Signer.random(), secrets.token_bytes(32))
    mint = devnet.chain.contract("DevUSD", token.address).functions.mint
    devnet.chain.send(FUNDER, mint(payer.key.address, 10**6))
    return payer


def clock() -> int:
    return int(time.time())


def deposit(channels: ChannelsContract, payer: Payer, ceiling: int, amount: int) -> DepositPayment:
    payment = payer.deposits(ceiling, amount, now=clock()).payment
    assert isinstance(payment, DepositPayment)
    channels.deposit(FUNDER, payment, collector=payer.terms.collector)
    return payment


def channel_of(payer: Payer) -> str:
    return f"0x{payer.channel_id.hex()}"


def test_an_address_without_the_contract_is_named(devnet: Devnet) -> None:
    with pytest.raises(ChainMismatchError):
        ChannelsContract(devnet.chain, RECEIVER).state("0x" + "00" * 32, now=0)


def test_a_chain_that_does_not_answer_is_named(deployment: Deployment) -> None:
    nowhere = Chain("http://127.0.0.1:9", chain_id=31337)
    with pytest.raises(ChainUnreachableError):
        ChannelsContract(nowhere, deployment.payment_channels).state("0x" + "00" * 32, now=0)


def test_an_unknown_channel_is_empty(channels: ChannelsContract) -> None:
    state = channels.state("0x" + "ab" * 32, now=7)
    assert (state.balance, state.total_claimed, state.withdraw_requested_at) == (0, 0, 0)
    assert state.read_at == 7


def test_a_deposit_presented_twice_is_refused(channels: ChannelsContract, payer: Payer) -> None:
    payment = deposit(channels, payer, 100, 1_000)
    with pytest.raises(TransactionFailedError):
        channels.deposit(FUNDER, payment, collector=payer.terms.collector)
    assert channels.state(channel_of(payer), now=0).balance == 1_000


def test_a_deposit_signed_for_another_channel_is_refused(
    channels: ChannelsContract, payer: Payer
) -> None:
    payment = payer.deposits(100, 1_000, now=clock()).payment
    assert isinstance(payment, DepositPayment)
    other = replace(payment, config=replace(payment.config, salt=secrets.token_bytes(32)))
    with pytest.raises(TransactionFailedError):
        channels.deposit(FUNDER, other, collector=payer.terms.collector)


def test_what_calls_cost_is_claimed_settled_and_the_rest_refunded(
    channels: ChannelsContract, token: TokenContract, payer: Payer, database: Database
) -> None:
    now = clock()
    verified = payer.deposits(500, 10_000, now=now)
    assert isinstance(verified.payment, DepositPayment)
    channels.deposit(FUNDER, verified.payment, collector=payer.terms.collector)
    state = channels.state(channel_of(payer), now=now)
    assert state.balance == 10_000

    def call(ceiling: int, quote: int, actual: int, stream: bool) -> int:
        def work(tx):  # type: ignore[no-untyped-def]  # one transaction, as a call has two
            reservation = LEDGER.reserve(tx, payer.pays(ceiling), quote=quote, state=state, now=now)
            if stream:
                reservation = LEDGER.prepay(tx, reservation)
            return LEDGER.commit(tx, reservation, actual).cumulative

        return database.write_now(work)

    assert call(500, 500, 200, False) == 200
    assert call(700, 500, 100, True) == 700  # told in full, 400 of it credit
    [claim] = database.read(LEDGER.claims)
    assert (claim.total, claim.claimed) == (300, 0)

    before = channels.receiver(RECEIVER, token.address)
    channels.claim(FUNDER, NODE, [claim])
    state = channels.state(channel_of(payer), now=now)
    assert state.total_claimed == 300
    channels.claim(FUNDER, NODE, [claim])  # a repeated claim changes nothing
    after = channels.receiver(RECEIVER, token.address)
    assert after[0] - before[0] == 300

    held = token.balance_of(RECEIVER)
    channels.settle(FUNDER, receiver=RECEIVER, token=token.address)
    assert token.balance_of(RECEIVER) - held == after[0] - before[1]

    call(1_200, 500, 450, False)  # 400 of credit and 50 new
    plan = database.write_now(
        lambda tx: LEDGER.reserve_refund(tx, payer.refunds(750), state=state, now=now)
    )
    assert (plan.amount, plan.nonce) == (9_250, 0)
    receipt = channels.refund(FUNDER, NODE, plan)
    assert channels.refunded(receipt) == 9_250
    assert token.balance_of(payer.key.address) == 10**6 - 750
    state = channels.state(channel_of(payer), now=now)
    assert (state.balance, state.total_claimed, state.refund_nonce) == (750, 750, 1)
    done = database.write_now(lambda tx: LEDGER.finish_refund(tx, plan.reservation, state))
    assert (done.cumulative, done.credit) == (750, 0)
    assert database.read(LEDGER.claims) == []


def test_a_partial_refund_leaves_the_rest(
    channels: ChannelsContract, payer: Payer, database: Database
) -> None:
    now = clock()
    deposit(channels, payer, 100, 1_000)
    state = channels.state(channel_of(payer), now=now)

    def failed(tx):  # type: ignore[no-untyped-def]  # a call that failed: the channel is known
        LEDGER.release(tx, LEDGER.reserve(tx, payer.pays(100), quote=100, state=state, now=now))
        return LEDGER.reserve_refund(tx, payer.refunds(0, 400), state=state, now=now)

    plan = database.write_now(failed)
    assert plan.claim is None
    assert channels.refunded(channels.refund(FUNDER, NODE, plan)) == 400
    with pytest.raises(TransactionFailedError):
        channels.refund(FUNDER, NODE, plan)  # its nonce is used
    state = channels.state(channel_of(payer), now=now)
    done = database.write_now(lambda tx: LEDGER.finish_refund(tx, plan.reservation, state))
    assert done.state["balance"] == "600"


def test_a_claim_above_the_ceiling_is_refused_by_the_chain(
    channels: ChannelsContract, payer: Payer, database: Database
) -> None:
    now = clock()
    deposit(channels, payer, 100, 1_000)
    state = channels.state(channel_of(payer), now=now)

    def work(tx):  # type: ignore[no-untyped-def]  # a call at its full quote
        reservation = LEDGER.reserve(tx, payer.pays(100), quote=100, state=state, now=now)
        LEDGER.commit(tx, reservation, 100)
        return LEDGER.claims(tx)

    claim = next(c for c in database.write_now(work) if c.channel_id == channel_of(payer))
    with pytest.raises(TransactionFailedError, match="ClaimExceedsCeiling"):
        channels.claim(FUNDER, NODE, [replace(claim, total=101)])
    channels.claim(FUNDER, NODE, [claim])


def test_a_pending_withdrawal_is_seen(
    devnet: Devnet, channels: ChannelsContract, payer: Payer
) -> None:
    deposit(channels, payer, 100, 1_000)
    devnet.chain.rpc("anvil_setBalance", payer.key.address, hex(10**18))
    contract = devnet.chain.contract("PaymentChannels", channels.address)
    config = tuple(vars(payer.config).values())
    devnet.chain.send(payer.key, contract.functions.initiateWithdraw(config, 600))
    state = channels.state(channel_of(payer), now=clock())
    assert (state.withdraw_amount, state.usable) == (600, 400)
    assert state.withdraw_requested_at > 0


def test_an_exact_payment_moves_once(token: TokenContract, payer: Payer) -> None:
    payment = payer.authorize(value=700, valid_before=clock() + 300)
    token.check(payment)
    assert token.settlement(payment.payer, payment.nonce) is None
    before = token.balance_of(RECEIVER)
    receipt = token.transfer(FUNDER, payment)
    assert token.balance_of(RECEIVER) - before == 700
    assert token.is_used(payment.payer, payment.nonce)
    assert token.settlement(payment.payer, payment.nonce) == receipt.hash
    for attempt in (token.check, lambda p: token.transfer(FUNDER, p)):
        with pytest.raises(PaymentRefusedError) as caught:
            attempt(payment)
        assert caught.value.code == "invalid_exact_evm_nonce_already_used"


def test_an_exact_payment_beyond_the_balance_is_refused(token: TokenContract, payer: Payer) -> None:
    with pytest.raises(PaymentRefusedError) as caught:
        token.check(payer.authorize(value=10**6 + 1, valid_before=clock() + 300))
    assert caught.value.code == "invalid_exact_evm_insufficient_balance"


def test_an_exact_payment_that_the_token_refuses_otherwise_is_refused(
    token: TokenContract, payer: Payer
) -> None:
    with pytest.raises(PaymentRefusedError) as caught:
        token.check(replace(payer.authorize(value=1, valid_before=clock() + 300), value=2))
    assert caught.value.code == "invalid_exact_evm_transaction_simulation_failed"


def test_the_tokens_domain_is_read(token: TokenContract) -> None:
    assert (token.token().name, token.token().version) == ("DevUSD", "1")
