"""The official Python client, unmodified, against our ledger and contracts: no HTTP between them.

The client signs, we verify, deposit, reserve, commit; it books what we tell it, and at every step
its books equal ours.
"""

from __future__ import annotations

import secrets
import time
from types import SimpleNamespace
from typing import Any

import pytest
from eth_account import Account as EthAccount
from x402.http.utils import (
    decode_payment_required_header,
    decode_payment_response_header,
    decode_payment_signature_header,
)
from x402.mechanisms.evm.batch_settlement.client import BatchSettlementEvmScheme
from x402.mechanisms.evm.batch_settlement.client.config import BatchSettlementEvmSchemeOptions
from x402.mechanisms.evm.batch_settlement.client.refund import RefundOptions
from x402.mechanisms.evm.batch_settlement.utils import compute_channel_id
from x402.mechanisms.evm.exact.client import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC
from x402.schemas import PaymentPayload, PaymentRequirements
from x402.schemas.hooks import PaymentResponseContext

from inference.database import Database
from inference.errors import CorrectivePaymentError
from inference.payments.channel import SCHEME, DepositPayment, parse_batch_payload
from inference.payments.channels_contract import ChannelsContract
from inference.payments.exact import parse_authorization, verify_authorization
from inference.payments.ledger import ChannelLedger
from inference.payments.token_contract import TokenContract
from inference.payments.verification import verify_payment
from inference.payments.x402 import (
    Requirements,
    decode_payment,
    payment_required,
    settle_response,
)
from registry.chain.deploy import Deployment
from registry.chain.devnet import Devnet
from registry.signing.signer import Signer
from tests.inference.payments.payer import NODE, RECEIVER, make_terms

FUNDER = Signer.anvil(0, chain_id=31337)
NETWORK = "eip155:31337"


class Shop:
    """Our side of the counter."""

    def __init__(self, devnet: Devnet, deployment: Deployment, database: Database) -> None:
        assert deployment.dev_usd is not None
        self.chain = devnet.chain
        self.token = TokenContract(devnet.chain, deployment.dev_usd)
        self.channels = ChannelsContract(devnet.chain, deployment.payment_channels)
        self.terms = make_terms(token=self.token.token())
        self.database = database
        self.ledger = ChannelLedger()

    def offer(self, amount: int) -> Requirements:
        return Requirements(
            SCHEME, NETWORK, amount, self.token.address, RECEIVER, 300, self.terms.extra()
        )

    def serve(self, payload: dict[str, Any], quote: int, actual: int, *, stream: bool) -> str:
        """Serve one call and return the PAYMENT-RESPONSE its client books."""
        now = int(time.time())
        payment = verify_payment(parse_batch_payload(payload), self.terms, now=now)
        if isinstance(payment.payment, DepositPayment):
            self.channels.deposit(FUNDER, payment.payment, collector=self.terms.collector)
        state = self.channels.state(payment.channel_id, now=now)

        def begin(tx: Any) -> Any:
            taken = self.ledger.reserve(tx, payment, quote=quote, state=state, now=now)
            return self.ledger.prepay(tx, taken) if stream else taken

        reservation = self.database.write_now(begin)
        done = self.database.write_now(lambda tx: self.ledger.commit(tx, reservation, actual))
        extra = reservation.extra() if stream else done.extra()
        return settle_response(success=True, network=NETWORK, extra=extra)

    def refund(self, header: str) -> str:
        now = int(time.time())
        payment = decode_payment(header)
        verified = verify_payment(parse_batch_payload(payment.payload), self.terms, now=now)
        state = self.channels.state(verified.channel_id, now=now)
        plan = self.database.write_now(
            lambda tx: self.ledger.reserve_refund(tx, verified, state=state, now=now)
        )
        receipt = self.channels.refund(FUNDER, NODE, plan)
        after = self.channels.state(verified.channel_id, now=now)
        done = self.database.write_now(
            lambda tx: self.ledger.finish_refund(tx, plan.reservation, after)
        )
        return settle_response(
            success=True,
            network=NETWORK,
            transaction=receipt.text,
            amount=self.channels.refunded(receipt),
            extra={"channelState": dict(done.state)},
        )


class Customer:
    """The official client with a wallet; `forget` makes it lose what it knew."""

    def __init__(self, devnet: Devnet, shop: Shop) -> None:
        self.account = EthAccount.create()
        self.signer = EthAccountSignerWithRPC(self.account, devnet.rpc_url)
        self.salt = "0x" + secrets.token_hex(32)
        self.shop = shop
        mint = devnet.chain.contract("DevUSD", shop.token.address).functions.mint
        devnet.chain.send(FUNDER, mint(self.account.address, 10**6))
        self.forget()

    def forget(self) -> None:
        self.scheme = BatchSettlementEvmScheme(
            self.signer, BatchSettlementEvmSchemeOptions(salt=self.salt)
        )

    @property
    def books(self) -> Any:
        requirements = PaymentRequirements.model_validate(self.shop.offer(1).to_json())
        config = self.scheme.build_channel_config(requirements)
        return self.scheme._storage.get(compute_channel_id(config, NETWORK).lower())

    def call(self, quote: int, actual: int, *, stream: bool = False) -> str:
        """Pay for one call, with the one corrective retry the client allows itself."""
        requirements = PaymentRequirements.model_validate(self.shop.offer(quote).to_json())
        for _ in range(2):
            payload = self.scheme.create_payment_payload(requirements)
            sent = PaymentPayload(payload=payload, accepted=requirements)
            try:
                header = self.shop.serve(payload, quote, actual, stream=stream)
            except CorrectivePaymentError as error:
                demand = payment_required(
                    {"url": "http://node/"},
                    [self.shop.offer(quote)],
                    error=error.code,
                    correction=error.extra,
                )
                assert self._book(sent, requirements, corrected=demand) is not None
                continue
            self._book(sent, requirements, settled=header)
            return str(payload["type"])
        raise AssertionError("the client gave up")

    def _book(self, sent: Any, requirements: Any, *, settled: str = "", corrected: str = "") -> Any:
        return self.scheme.scheme_hooks.on_payment_response(
            PaymentResponseContext(
                payment_payload=sent,
                requirements=requirements,
                settle_response=decode_payment_response_header(settled) if settled else None,
                payment_required=decode_payment_required_header(corrected) if corrected else None,
            )
        )

    def refund(self, amount: str | None = None) -> Any:
        def fetch(_url: str, headers: dict[str, str]) -> Any:
            if sent := headers.get("PAYMENT-SIGNATURE"):
                decode_payment_signature_header(sent)
                return SimpleNamespace(status=200, header=lambda _: self.shop.refund(sent))
            demand = payment_required({"url": "http://node/"}, [self.shop.offer(1)])
            return SimpleNamespace(status=402, header=lambda _: demand)

        return self.scheme.refund("http://node/", RefundOptions(amount=amount, fetch=fetch))


@pytest.fixture
def shop(devnet: Devnet, deployment: Deployment, database: Database) -> Shop:
    return Shop(devnet, deployment, database)


@pytest.fixture
def customer(devnet: Devnet, shop: Shop) -> Customer:
    return Customer(devnet, shop)


def test_it_opens_a_channel_pays_by_voucher_and_tops_up(customer: Customer) -> None:
    assert customer.call(100, 30) == "deposit"
    assert (customer.books.charged_cumulative_amount, customer.books.balance) == ("30", "500")
    assert [customer.call(100, 100) for _ in range(4)] == ["voucher"] * 4
    assert customer.books.charged_cumulative_amount == "430"
    assert customer.call(100, 0) == "deposit"
    assert customer.books.charged_cumulative_amount == "430"
    assert customer.call(100, 50) == "voucher"


def test_it_books_streams_up_front_and_the_credit_they_leave(customer: Customer) -> None:
    customer.call(100, 40)
    customer.call(100, 10, stream=True)
    assert customer.books.charged_cumulative_amount == "140"
    customer.call(100, 80)
    assert customer.books.charged_cumulative_amount == "140"
    customer.call(100, 50, stream=True)
    assert customer.books.charged_cumulative_amount == "230"
    claims = customer.shop.database.read(customer.shop.ledger.claims)
    assert [claim.total for claim in claims] == [40 + 10 + 80 + 50]


def test_it_recovers_from_losing_its_books(customer: Customer) -> None:
    customer.call(100, 70)
    customer.call(100, 20, stream=True)
    customer.forget()
    assert customer.call(100, 5) == "voucher"
    assert customer.books.charged_cumulative_amount == "170"


def test_it_is_refunded_in_part_and_in_whole_and_pays_again(customer: Customer) -> None:
    customer.call(100, 70)
    part = customer.refund("100")
    assert (part.success, part.amount) == (True, "100")
    assert customer.books.balance == "400"
    customer.call(100, 20, stream=True)
    whole = customer.refund()
    assert whole.amount == str(400 - 70 - 20)
    assert customer.shop.token.balance_of(customer.account.address) == 10**6 - 90
    assert customer.books is None
    assert customer.call(100, 10) == "deposit"
    assert customer.books.charged_cumulative_amount == "100"


def test_it_pays_exactly(customer: Customer) -> None:
    shop = customer.shop
    offer = Requirements(
        "exact",
        NETWORK,
        250,
        shop.token.address,
        RECEIVER,
        300,
        {"name": shop.terms.token.name, "version": shop.terms.token.version},
    )
    scheme = ExactEvmScheme(customer.signer)
    payload = scheme.create_payment_payload(PaymentRequirements.model_validate(offer.to_json()))
    verified = verify_authorization(
        parse_authorization(payload),
        token=shop.terms.token,
        pay_to=RECEIVER,
        amount=250,
        now=int(time.time()),
    )
    shop.token.check(verified.authorization)
    shop.token.transfer(FUNDER, verified.authorization)
    assert shop.token.balance_of(customer.account.address) == 10**6 - 250
