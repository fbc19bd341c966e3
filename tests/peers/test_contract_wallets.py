"""Payers that are contracts (EIP-1271), and such as are not there yet (ERC-6492)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from eth_hash.auto import keccak

from inference.audit.disclosure import Consent, Refusal, disclosure_domain
from inference.audit.replay import Disclosure
from inference.disclosure_client import DisclosureClient
from inference.errors import UnavailableError
from inference.payments.wallet import MOST_GAS
from inference.receipts import SignedReceipt
from registry.chain.connection import Chain
from registry.signing.signer import Signer
from tests.peers.clients import Customer, javascript, refund
from tests.peers.counter import QUOTE, Counter, goods, opened_counter
from tests.peers.mocks import future_wallet, put

pytestmark = pytest.mark.peer
BAD_SIGNATURE = "invalid_exact_evm_payload_signature"
BAD_DEPOSIT = "invalid_batch_settlement_evm_receive_authorization_signature"
# What Anvil's first deployment from the seventh account is called on a fresh devnet.
MAKER = Signer.anvil(7, chain_id=31337)
FACTORY = "0xef11D1c2aA48826D4c41e54ab82D1Ff5Ad8A64Ca"


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    settings = f'wallet_factories = ["{FACTORY}"]\ndisclosure.keep_s = 3600'
    with opened_counter(tmp_path_factory.mktemp("counter"), settings) as counter:
        chain = counter.shop.workspace.chain
        assert put(chain, MAKER, "WalletFactory", []) == FACTORY
        yield counter


@pytest.fixture
def chain(counter: Counter) -> Chain:
    return counter.shop.workspace.chain


def customer(counter: Counter, key: Signer, address: str, scheme: str, **wrap: str) -> Customer:
    """A funded contract for which a key signs."""
    counter.fund(address)
    counter.heard()
    wallet: dict[str, Any] = {"address": address} | ({"wrap": wrap} if wrap else {})
    return Customer(counter.url, counter.rpc_url, key, scheme, wallet)


def deployed(counter: Counter, chain: Chain, scheme: str, owner: Signer | None = None) -> Customer:
    key = Signer.random()
    wallet = put(chain, MAKER, "ContractWallet", ["address"], (owner or key).address)
    return customer(counter, key, wallet, scheme)


def future(counter: Counter, scheme: str, factory: str = FACTORY) -> Customer:
    key = Signer.random()
    address, making = future_wallet(factory, key.address)
    return customer(counter, key, address, scheme, factory=factory, data=making)


def payer(customer: Customer) -> str:
    assert customer.wallet is not None
    return str(customer.wallet["address"])


def refusal(counter: Counter) -> tuple[int, str]:
    """The last answer's status and code."""
    _, status, code = counter.heard()[-1].said
    return status, code


@pytest.mark.parametrize(
    ("scheme", "code"), [("exact", BAD_SIGNATURE), ("batch-settlement", BAD_DEPOSIT)]
)
def test_a_wallet_that_does_not_know_the_key_pays_nothing(
    counter: Counter, chain: Chain, scheme: str, code: str
) -> None:
    stranger = deployed(counter, chain, scheme, owner=Signer.random())
    javascript(stranger, [goods()])
    assert refusal(counter) == (402, code)
    assert counter.charges(payer(stranger)) == []


def test_a_key_cannot_sign_for_another_key(counter: Counter) -> None:
    other = customer(counter, Signer.random(), counter.wallet().address, "exact")
    javascript(other, [goods()])
    assert refusal(counter) == (402, BAD_SIGNATURE)


@pytest.mark.parametrize(
    ("left", "scheme", "code"),
    [
        (0, "exact", BAD_SIGNATURE),
        (1000, "exact", "invalid_exact_evm_transaction_simulation_failed"),
        (1000, "batch-settlement", "invalid_batch_settlement_evm_deposit_transaction_failed"),
    ],
    ids=["all", "nearly all", "nearly all of a deposit"],
)
def test_a_wallet_that_would_burn_our_gas_is_refused_before_any_work(
    counter: Counter, chain: Chain, left: int, scheme: str, code: str
) -> None:
    greedy = put(chain, MAKER, "GreedyWallet", ["uint256"], left)
    ether = chain.balance(counter.shop.address)
    javascript(customer(counter, Signer.random(), greedy, scheme), [goods()])
    assert refusal(counter) == (402, code)
    assert counter.charges(greedy) == []
    assert chain.balance(counter.shop.address) == ether


def test_a_factory_that_nobody_named_is_not_called(counter: Counter, chain: Chain) -> None:
    other = put(chain, MAKER, "WalletFactory", [])
    wallet = future(counter, "exact", factory=other)
    javascript(wallet, [goods()])
    assert refusal(counter) == (402, "eip6492_factory_not_allowed")
    assert not chain.code(payer(wallet))


def test_a_factory_that_makes_another_wallet_than_the_payer_is_of_no_use(
    counter: Counter, chain: Chain
) -> None:
    wallet = future(counter, "exact")
    assert wallet.wallet is not None
    _, making = future_wallet(FACTORY, Signer.random().address)
    wallet.wallet["wrap"]["data"] = making
    javascript(wallet, [goods()])
    assert refusal(counter) == (402, BAD_SIGNATURE)


def test_a_contract_wallet_pays_by_exact(counter: Counter, chain: Chain) -> None:
    wallet = deployed(counter, chain, "exact")
    before = counter.balance(payer(wallet))
    bought = javascript(wallet, [goods(), goods(fails="early"), goods()])
    assert [one["status"] for one in bought] == [200, 500, 200]
    assert bought[0]["settled"]["payer"] == payer(wallet)
    assert counter.balance(payer(wallet)) == before - 2 * QUOTE


def test_a_contract_wallet_opens_a_channel_for_a_key_and_is_refunded(
    counter: Counter, chain: Chain
) -> None:
    wallet = deployed(counter, chain, "batch-settlement")
    before = counter.balance(payer(wallet))
    first, second, back = javascript(wallet, [goods(30), goods(40), refund()])
    assert [first["status"], second["status"]] == [200, 200]
    assert back["amount"] == str(5 * QUOTE - 70)
    assert counter.balance(payer(wallet)) == before - 70
    assert counter.charges(payer(wallet)) == [("ok", 30), ("ok", 40)]


@pytest.mark.parametrize("scheme", ["exact", "batch-settlement"])
def test_a_wallet_that_is_not_there_yet_is_made_for_its_first_payment_only(
    counter: Counter, chain: Chain, scheme: str
) -> None:
    wallet = future(counter, scheme)
    failed, first, second = javascript(wallet, [goods(fails="early"), goods(), goods()])
    assert [failed["status"], first["status"], second["status"]] == [500, 200, 200]
    assert chain.code(payer(wallet))
    assert counter.charges(payer(wallet))[0] == ("failed", 0)
    # It is there now; the same wrapping is read past.
    (third,) = javascript(wallet, [goods()])
    assert third["status"] == 200


@pytest.fixture
def shown(counter: Counter, chain: Chain) -> Iterator[tuple[Customer, Any, Any]]:
    """A contract that bought something; who may see it with a consent; the consent of its key."""
    wallet = deployed(counter, chain, "exact")
    (bought,) = javascript(wallet, [goods(7)])
    signed = SignedReceipt.from_json(bought["settled"]["extensions"]["weightproof"])
    contracts = counter.shop.node.config.registry.contracts
    domain = disclosure_domain(contracts.chain_id, contracts.audit_anchor)
    assert signed.receipt.payment.payer == payer(wallet)

    def consented(key: Signer) -> Consent:
        how: Any = {"node": counter.shop.address, "until": int(time.time()) + 600}
        return Consent.give(key, domain, wallet=payer(wallet), **how)

    with counter.shop.http() as http:

        def seen(*consents: Consent) -> Disclosure | Refusal:
            auditor = Signer.random()
            asking = DisclosureClient(http, auditor, counter.shop.address, domain, consents)
            return asking.ask(signed)

        yield wallet, seen, consented


NOT_SIGNED = "not signed by the call's payer"


def test_what_a_contract_bought_nobody_sees_by_the_word_of_another_key(
    shown: tuple[Customer, Any, Any],
) -> None:
    wallet, seen, consented = shown
    with pytest.raises(UnavailableError, match="only its payer may see"):
        seen()
    for forged in (
        consented(Signer.random()),
        replace(consented(wallet.signer), signature=bytes(65)),
        replace(consented(wallet.signer), signature=b""),
        replace(consented(wallet.signer), until=2**40),
    ):
        with pytest.raises(UnavailableError, match=NOT_SIGNED):
            seen(forged)


def test_a_contract_wallet_consents_to_a_disclosure_until_it_changes_its_mind(
    shown: tuple[Customer, Any, Any], chain: Chain
) -> None:
    wallet, seen, consented = shown
    given = consented(wallet.signer)
    # A contract's signature may be of any length.
    for consent in (given, replace(given, signature=given.signature + b"and a second key's")):
        found = seen(Consent.from_json(consent.to_json()))
        assert found.output_ids == tuple(range(7))
        assert json.loads(found.request) == goods(7)
    freeze = "0x" + keccak(b"freeze()")[:4].hex()
    sent = {"from": MAKER.address, "to": payer(wallet), "data": freeze}
    raw = str(chain.rpc("eth_sendTransaction", sent))
    while chain.receipt(bytes.fromhex(raw.removeprefix("0x"))) is None:
        pass
    with pytest.raises(UnavailableError, match=NOT_SIGNED):
        seen(given)


def test_what_a_wallet_costs_us_is_bounded(counter: Counter, chain: Chain) -> None:
    wallet = deployed(counter, chain, "exact")
    (bought,) = javascript(wallet, [goods()])
    receipt = chain.receipt(bytes.fromhex(bought["settled"]["transaction"][2:]))
    assert receipt is not None
    assert receipt.gas_used < MOST_GAS
