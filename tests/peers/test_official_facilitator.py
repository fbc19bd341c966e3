"""The official facilitator, unmodified, verifies and settles on our contracts."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account as EthAccount
from x402.mechanisms.evm.batch_settlement.authorizer_signer import LocalAuthorizerSigner
from x402.mechanisms.evm.batch_settlement.client import BatchSettlementEvmScheme
from x402.mechanisms.evm.batch_settlement.client.config import BatchSettlementEvmSchemeOptions
from x402.mechanisms.evm.batch_settlement.facilitator import BatchSettlementEvmFacilitator
from x402.mechanisms.evm.batch_settlement.types import (
    ChannelConfig,
    ClaimPayload,
    EnrichedRefundPayload,
    SettlePayload,
    VoucherClaim,
    VoucherFields,
)
from x402.mechanisms.evm.constants import MULTICALL3_ADDRESS
from x402.mechanisms.evm.exact import ExactEvmScheme as ExactClient
from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme as ExactFacilitator
from x402.mechanisms.evm.exact.facilitator import ExactEvmSchemeConfig
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC, FacilitatorWeb3Signer
from x402.schemas import PaymentPayload, PaymentRequirements

from inference.payments.channel import SCHEME
from inference.payments.channels_contract import ChannelsContract
from inference.payments.token_contract import TokenContract
from inference.payments.x402 import Requirements
from registry.chain.deploy import Deployment
from registry.chain.dev_usd import ONE, balance, mint
from registry.chain.devnet import Devnet
from registry.signing.signer import Signer
from tests.inference.payments.payer import NODE, RECEIVER, make_terms
from tests.peers.clients import NETWORK
from tests.peers.mocks import future_wallet, put

pytestmark = pytest.mark.peer
MAKER = Signer.anvil(8, chain_id=31337)


@dataclass
class Court:
    """The facilitator of others and a client of others, with our contracts between them."""

    devnet: Devnet
    token: TokenContract
    channels: ChannelsContract
    requirements: PaymentRequirements
    facilitator: Any
    scheme: Any
    wallet: str

    def judge(self, payload: dict[str, Any]) -> tuple[Any, Any]:
        """Return what the facilitator says of a payload, and the payment it is part of."""
        payment = PaymentPayload(payload=payload, accepted=self.requirements)
        return self.facilitator.verify(payment, self.requirements), payment

    def settle(self, payload: dict[str, Any]) -> Any:
        done = self.facilitator.settle(
            PaymentPayload(payload=payload, accepted=self.requirements), self.requirements
        )
        assert done.success, (done.error_reason, done.error_message)
        assert done.transaction.startswith("0x")
        return done

    def holds(self, owner: str) -> int:
        return balance(self.devnet.chain, self.token.address, owner)


def court(devnet: Devnet, deployment: Deployment, scheme: str, amount: int = 100) -> Court:
    assert deployment.dev_usd is not None
    chain = devnet.chain
    if not chain.code(MULTICALL3_ADDRESS):
        code = chain.code(put(chain, MAKER, "TryAggregate", []))
        chain.rpc("anvil_setCode", MULTICALL3_ADDRESS, "0x" + code.hex())
    token = TokenContract(chain, deployment.dev_usd)
    terms = make_terms(token=token.token())
    extra = terms.extra() if scheme == SCHEME else {"name": "DevUSD", "version": "1"}
    offer = Requirements(scheme, NETWORK, amount, token.address, RECEIVER, 300, extra)
    account = EthAccount.create()
    mint(chain, MAKER, token.address, account.address, ONE)
    signer = EthAccountSignerWithRPC(account, devnet.rpc_url)
    sender = FacilitatorWeb3Signer("0x" + MAKER.secret().hex(), devnet.rpc_url)
    if scheme == SCHEME:
        authorizer = LocalAuthorizerSigner("0x" + NODE.secret().hex())
        facilitator: Any = BatchSettlementEvmFacilitator(sender, authorizer)
        salt = "0x" + secrets.token_hex(32)
        options = BatchSettlementEvmSchemeOptions(salt=salt)
        client: Any = BatchSettlementEvmScheme(signer, options)
    else:
        facilitator, client = ExactFacilitator(sender), ExactClient(signer)
    requirements = PaymentRequirements.model_validate(offer.to_json())
    channels = ChannelsContract(chain, deployment.payment_channels)
    return Court(devnet, token, channels, requirements, facilitator, client, account.address)


def test_it_settles_an_exact_payment_once(devnet: Devnet, deployment: Deployment) -> None:
    here = court(devnet, deployment, "exact")
    payload = here.scheme.create_payment_payload(here.requirements)
    verdict, payment = here.judge(payload)
    assert verdict.is_valid, verdict
    before = here.holds(RECEIVER)
    here.settle(payload)
    assert here.holds(RECEIVER) == before + 100
    assert here.holds(here.wallet) == ONE - 100
    again = here.facilitator.verify(payment, here.requirements)
    assert not again.is_valid
    assert again.invalid_reason == "invalid_exact_evm_nonce_already_used"


def test_it_takes_a_channel_from_its_deposit_to_its_refund(
    devnet: Devnet, deployment: Deployment
) -> None:
    here = court(devnet, deployment, SCHEME)
    deposit = here.scheme.create_payment_payload(here.requirements)
    verdict, _ = here.judge(deposit)
    assert verdict.is_valid, verdict
    assert here.settle(deposit).amount == "500"
    channel_id = deposit["voucher"]["channelId"]
    # The client's next voucher, of all it signed for so far.
    voucher = {"type": "voucher"} | {name: deposit[name] for name in ("channelConfig", "voucher")}
    verdict, _ = here.judge(voucher)
    assert verdict.is_valid, verdict
    assert (verdict.extra["balance"], verdict.extra["totalClaimed"]) == ("500", "0")

    config = ChannelConfig.from_dict(deposit["channelConfig"])
    row = VoucherClaim(
        channel=config,
        max_claimable_amount="100",
        signature=deposit["voucher"]["signature"],
        total_claimed="60",
    )
    here.settle(ClaimPayload(claims=[row]).to_dict())
    assert here.channels.state(channel_id, now=0).total_claimed == 60
    # Others' tests may have claimed for the same receiver on this chain.
    claimed, settled = here.channels.receiver(RECEIVER, here.token.address)
    before = here.holds(RECEIVER)
    here.settle(SettlePayload(receiver=RECEIVER, token=here.token.address).to_dict())
    assert here.holds(RECEIVER) == before + claimed - settled

    rest = VoucherClaim(
        channel=config,
        max_claimable_amount="100",
        signature=deposit["voucher"]["signature"],
        total_claimed="90",
    )
    refund = EnrichedRefundPayload(
        channel_config=config,
        voucher=VoucherFields(channel_id, "100", deposit["voucher"]["signature"]),
        amount="410",
        refund_nonce="0",
        claims=[rest],
    )
    done = here.settle(refund.to_dict())
    assert done.amount == "410"
    state = here.channels.state(channel_id, now=0)
    assert (state.balance, state.total_claimed, state.refund_nonce) == (90, 90, 1)
    assert here.holds(here.wallet) == ONE - 90


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"maxClaimableAmount": "501"}, "voucher_signature"),
        ({"channelId": "0x" + "11" * 32}, "channel_id_mismatch"),
    ],
    ids=["amount", "channel"],
)
def test_it_refuses_what_we_refuse(
    devnet: Devnet, deployment: Deployment, wrong: dict[str, str], reason: str
) -> None:
    here = court(devnet, deployment, SCHEME)
    deposit = here.scheme.create_payment_payload(here.requirements)
    deposit["voucher"] |= wrong
    verdict, _ = here.judge(deposit)
    assert not verdict.is_valid
    assert verdict.invalid_reason == f"invalid_batch_settlement_evm_{reason}"


class OwnedWallet(EthAccountSignerWithRPC):
    """A contract's signer: its key signs, for the contract's address; `wrap` as ERC-6492.

    The facilitator takes signatures of 65 bytes for keys', so these are longer.
    """

    def __init__(self, account: Any, rpc_url: str, address: str, wrap: bytes) -> None:
        super().__init__(account, rpc_url)
        self._contract, self._wrap = address, wrap

    @property
    def address(self) -> str:
        return self._contract

    def sign_typed_data(self, *data: Any, **named: Any) -> bytes:
        signature = bytes(super().sign_typed_data(*data, **named)) + b"\0"
        if not self._wrap:
            return signature
        factory, making = self._wrap[:20], self._wrap[20:]
        parts = encode(["address", "bytes", "bytes"], [factory, making, signature])
        return parts + bytes.fromhex("6492" * 16)


@pytest.mark.parametrize("there", [True, False], ids=["EIP-1271", "ERC-6492"])
def test_it_settles_for_a_contract_wallet(
    devnet: Devnet, deployment: Deployment, there: bool
) -> None:
    here = court(devnet, deployment, "exact")
    owner = EthAccount.create()
    factory = put(devnet.chain, MAKER, "WalletFactory", [])
    wallet, making = future_wallet(factory, owner.address)
    wrap = bytes.fromhex(factory[2:] + making[2:])
    if there:
        wallet, wrap = put(devnet.chain, MAKER, "ContractWallet", ["address"], owner.address), b""
    mint(devnet.chain, MAKER, here.token.address, wallet, ONE)
    here.scheme = ExactClient(OwnedWallet(owner, devnet.rpc_url, wallet, wrap))
    sender = FacilitatorWeb3Signer("0x" + MAKER.secret().hex(), devnet.rpc_url)
    here.facilitator = ExactFacilitator(sender, ExactEvmSchemeConfig([factory]))
    payload = here.scheme.create_payment_payload(here.requirements)
    verdict, _ = here.judge(payload)
    assert verdict.is_valid, verdict
    here.settle(payload)
    assert here.holds(wallet) == ONE - 100
    assert devnet.chain.code(wallet)
