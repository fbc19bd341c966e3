"""The channels contract on chain: read a channel, deposit, claim, settle, refund.

`signer` sends and pays the gas; `authorizer` signs what the contract demands of the
receiverAuthorizer, so that any funded key can send. Every method waits for the chain: call it from
a thread. Errors are those of `registry.chain.connection`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final, TypeAlias, cast

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, InsufficientDataBytes

from inference.payments import channel
from inference.payments.account import OnchainChannel
from inference.payments.channel import CLAIM_BATCH, REFUND, ChannelConfig, DepositPayment
from inference.payments.claim import Claim
from inference.payments.ledger import RefundPlan
from inference.payments.wallet import Approval
from inference.payments.wallet_contract import Wallets
from registry.chain import calldata
from registry.chain.block import Block, TxReceipt
from registry.chain.connection import Chain
from registry.errors import ChainMismatchError
from registry.signing.signer import Signer

NAME: Final = "PaymentChannels"
_Config: TypeAlias = tuple[str, str, str, str, str, int, bytes]


@dataclass(frozen=True)
class Booked:
    """What a claim did for one channel: `amount` more, `total` in all; in atomic units."""

    channel_id: str
    amount: int
    total: int


class ChannelsContract:
    """One deployed channels contract. Channel ids are 0x texts, amounts atomic units."""

    def __init__(self, chain: Chain, address: str, wallets: Wallets | None = None) -> None:
        self._chain: Final = chain
        self._wallets: Final = wallets or Wallets(chain)
        self.address: Final = address

    @property
    def domain(self) -> bytes:
        """The contract's EIP-712 domain separator."""
        return channel.separator(self._chain.chain_id, self.address)

    def state(self, channel_id: str, *, now: int, block: Block | None = None) -> OnchainChannel:
        """Read a channel as of one block, the head unless given; `now` is in unix seconds."""
        functions = self._chain.contract(NAME, self.address).functions
        views = [functions.channels, functions.pendingWithdrawals, functions.refundNonce]
        calls = [bytes.fromhex(calldata.encode(view(channel_id))[2:]) for view in views]
        at = self._chain.head() if block is None else block
        answers = self._chain.call(functions.multicall(calls), at)
        try:
            balance, claimed = decode(["uint128", "uint128"], answers[0])
            amount, initiated = decode(["uint128", "uint40"], answers[1])
            (nonce,) = decode(["uint256"], answers[2])
        except (DecodingError, InsufficientDataBytes, IndexError) as error:
            raise ChainMismatchError(
                f"the contract at {self.address} does not answer like payment channels",
                hint="check the address of the channels contract",
            ) from error
        return OnchainChannel(
            balance=balance,
            total_claimed=claimed,
            withdraw_amount=amount if initiated else 0,
            withdraw_requested_at=initiated,
            refund_nonce=nonce,
            block=at.number,
            read_at=now,
        )

    def deposit(
        self,
        signer: Signer,
        payment: DepositPayment,
        *,
        collector: str,
        approval: Approval | None = None,
    ) -> TxReceipt:
        """Fetch an authorised deposit into its channel; anybody may send it.

        `approval` is that of a payer that is a contract.
        """
        data = encode(
            ["uint256", "uint256", "uint256", "bytes"],
            [payment.valid_after, payment.valid_before, payment.salt, payment.signature],
        )
        functions = self._chain.contract(NAME, self.address).functions
        call = functions.deposit(_config(payment.config), payment.amount, collector, data)
        return self._wallets.send(signer, call, approval)

    def claim(
        self,
        signer: Signer,
        authorizer: Signer,
        claims: Sequence[Claim],
        *,
        gas: int | None = None,
    ) -> TxReceipt:
        """Book vouchers to the receiver. A row that was claimed before is skipped silently.

        `gas` is what `claim_gas` told, if that was asked.
        """
        return self._chain.send(signer, self._claiming(signer, authorizer, claims), gas)

    def claim_gas(self, signer: Signer, authorizer: Signer, claims: Sequence[Claim]) -> int:
        """Return the gas limit of a claim. Raises `TransactionFailedError` if it would revert."""
        return self._chain.estimate(signer, self._claiming(signer, authorizer, claims))

    def claimed(self, receipt: TxReceipt) -> tuple[Booked, ...]:
        """Return what a transaction claimed, by the contract's word."""
        events = self._chain.events_in(receipt, NAME, self.address, "Claimed")
        return tuple(
            Booked(
                f"0x{cast(bytes, event.values['channelId']).hex()}",
                cast(int, event.values["claimAmount"]),
                cast(int, event.values["newTotalClaimed"]),
            )
            for event in events
        )

    def withdrawals(self, *, from_block: int, to_block: int) -> set[str]:
        """Return the channels, anybody's, of which a withdrawal was asked for in these blocks."""
        events = self._chain.events(
            NAME, self.address, "WithdrawInitiated", from_block=from_block, to_block=to_block
        )
        return {f"0x{cast(bytes, event.values['channelId']).hex()}" for event in events}

    def settle(self, signer: Signer, *, receiver: str, token: str) -> TxReceipt:
        """Transfer what was claimed for a receiver; anybody may send it, nothing is no error."""
        functions = self._chain.contract(NAME, self.address).functions
        return self._chain.send(signer, functions.settle(receiver, token))

    def refund(self, signer: Signer, authorizer: Signer, plan: RefundPlan) -> TxReceipt:
        """Claim what is owed and give back the plan's amount, in one transaction."""
        functions = self._chain.contract(NAME, self.address).functions
        channel_id = plan.reservation.channel_id
        values = {
            "channelId": bytes.fromhex(channel_id[2:]),
            "nonce": plan.nonce,
            "amount": plan.amount,
        }
        signature = authorizer.sign_digest(REFUND.digest(self.domain, values))
        steps = [
            functions.refundWithSignature(_config(plan.config), plan.amount, plan.nonce, signature)
        ]
        if plan.claim is not None:
            claims = [plan.claim]
            signed = authorizer.sign_digest(self._batch_digest(claims))
            steps.insert(0, functions.claimWithSignature(_rows(claims), signed))
        calls = [bytes.fromhex(calldata.encode(step)[2:]) for step in steps]
        return self._chain.send(signer, functions.multicall(calls))

    def receiver(self, receiver: str, token: str) -> tuple[int, int]:
        """Return what was claimed for a receiver in all, and how much of it was transferred."""
        functions = self._chain.contract(NAME, self.address).functions
        claimed, settled = self._chain.call(functions.receivers(receiver, token))
        return int(claimed), int(settled)

    def refunded(self, receipt: TxReceipt) -> int:
        """Return what a refund's transaction gave back: the contract caps it to what is left."""
        return self._moved(receipt, "Refunded")

    def settled(self, receipt: TxReceipt) -> int:
        """Return what a transaction moved to receivers."""
        return self._moved(receipt, "Settled")

    def _moved(self, receipt: TxReceipt, name: str) -> int:
        events = self._chain.events_in(receipt, NAME, self.address, name)
        return sum(cast(int, event.values["amount"]) for event in events)

    def _claiming(self, signer: Signer, authorizer: Signer, claims: Sequence[Claim]) -> Any:
        functions = self._chain.contract(NAME, self.address).functions
        if signer.address == authorizer.address:
            return functions.claim(_rows(claims))
        signature = authorizer.sign_digest(self._batch_digest(claims))
        return functions.claimWithSignature(_rows(claims), signature)

    def _batch_digest(self, claims: Sequence[Claim]) -> bytes:
        entries = [
            {
                "channelId": bytes.fromhex(claim.channel_id[2:]),
                "maxClaimableAmount": claim.max_claimable,
                "totalClaimed": claim.total,
            }
            for claim in claims
        ]
        return CLAIM_BATCH.digest(self.domain, {"claims": entries})


def _config(config: ChannelConfig) -> _Config:
    # The dataclass's fields stand in the order of the contract's struct.
    return astuple(config)


def _rows(claims: Sequence[Claim]) -> list[tuple[tuple[_Config, int], bytes, int]]:
    return [
        ((_config(claim.config), claim.max_claimable), claim.signature, claim.total)
        for claim in claims
    ]
