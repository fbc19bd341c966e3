"""The checks of a channel payment that need nothing but the payment, the terms and the clock.

1 config as offered · 2 channel id is the config's · 3 voucher signed by the payer's authorizer ·
4 for a deposit: large enough, in time, signed by the payer.

What depends on earlier calls (the cumulative amount, the balance) is decided in `ledger`, inside
the transaction that reserves. Vouchers are signed by plain keys only. A deposit may come from a
contract that approved its authorisation (`wallet`) and names a key for its vouchers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from inference.errors import NodeError, PaymentRefusedError
from inference.payments import channel
from inference.payments.channel import (
    MAX_WITHDRAW_DELAY_S,
    MIN_WITHDRAW_DELAY_S,
    NOBODY,
    BatchPayment,
    ChannelConfig,
    DepositPayment,
    Voucher,
    refuse,
)
from inference.payments.eip3009 import RECEIVE, Token
from inference.payments.wallet import Approval
from registry.errors import SignatureError
from registry.signing.signer import recover

_CODES: Final = {
    "signature": "receive_authorization_signature",
    "valid_before": "payload_authorization_valid_before",
    "valid_after": "payload_authorization_valid_after",
}
_MINT: Final = object()


@dataclass(frozen=True)
class Terms:
    """On what terms channels are accepted; the same facts that an offer's `extra` states.

    `contract` and `collector` are the addresses the official clients sign for.
    `withdraw_delay` is in seconds, `min_deposit` in atomic units.
    """

    contract: str
    collector: str
    receiver: str
    receiver_authorizer: str
    token: Token
    withdraw_delay: int
    min_deposit: int = 0

    @property
    def domain(self) -> bytes:
        """The channels contract's EIP-712 domain separator."""
        return channel.separator(self.token.chain_id, self.contract)

    def extra(self) -> dict[str, object]:
        """Return the `extra` of an offer."""
        extra: dict[str, object] = {
            "receiverAuthorizer": self.receiver_authorizer,
            "withdrawDelay": self.withdraw_delay,
            "name": self.token.name,
            "version": self.token.version,
            "assetTransferMethod": "eip3009",
        }
        return extra | ({"minDeposit": str(self.min_deposit)} if self.min_deposit else {})


@dataclass(frozen=True)
class VerifiedPayment:
    """A channel payment whose signatures and terms hold. Only `verify_payment` makes one."""

    payment: BatchPayment
    mint: object
    approval: Approval | None = None

    def __post_init__(self) -> None:
        if self.mint is not _MINT:
            raise NodeError("a VerifiedPayment comes from verify_payment only")

    @property
    def channel_id(self) -> str:
        """The channel, 0x and 64 hex digits."""
        return f"0x{self.payment.voucher.channel_id.hex()}"


def verify_payment(
    payment: BatchPayment, terms: Terms, *, now: int, approval: Approval | None = None
) -> VerifiedPayment:
    """Check 1 to 4; `now` is in unix seconds. Raises `PaymentRefusedError` with x402's code.

    Last of all `WalletSignatureError`: who gets the payer's `approval` of a deposit then, may call
    again with it.
    """
    _check_config(payment.config, terms)
    if channel.channel_id(payment.config, terms.domain) != payment.voucher.channel_id:
        raise refuse("channel_id_mismatch", "the channel id is not that of the channel config")
    _check_voucher(payment.config, payment.voucher, terms)
    if isinstance(payment, DepositPayment):
        _check_deposit(payment, terms, now, approval)
        if approval is not None:
            payment = replace(payment, signature=approval.signature)
    return VerifiedPayment(payment, _MINT, approval)


def _check_config(config: ChannelConfig, terms: Terms) -> None:
    if config.receiver != terms.receiver:
        raise refuse("receiver_mismatch", f"the channel pays {config.receiver}")
    if config.receiver_authorizer != terms.receiver_authorizer:
        raise refuse(
            "receiver_authorizer_mismatch", f"the channel's is {config.receiver_authorizer}"
        )
    if config.token != terms.token.address:
        raise refuse("token_mismatch", f"the channel holds {config.token}")
    if not MIN_WITHDRAW_DELAY_S <= config.withdraw_delay <= MAX_WITHDRAW_DELAY_S:
        raise refuse("withdraw_delay_out_of_range", f"{config.withdraw_delay} seconds")
    if config.withdraw_delay != terms.withdraw_delay:
        raise refuse("withdraw_delay_mismatch", f"{config.withdraw_delay} seconds")
    if config.payer_authorizer == NOBODY:
        # The contract would ask the payer's account, which may become another contract at any time
        # (EIP-7702) and disown every voucher. The signature of a key named here holds for ever.
        raise refuse("voucher_signature", "the channel must name a payerAuthorizer")


def _check_voucher(config: ChannelConfig, voucher: Voucher, terms: Terms) -> None:
    try:
        signed_by = recover(voucher.digest(terms.domain), voucher.signature)
    except SignatureError as error:
        raise refuse("voucher_signature", error.message) from error
    if signed_by != config.payer_authorizer:
        raise refuse("voucher_signature", f"the voucher is signed by {signed_by}")


def _check_deposit(
    payment: DepositPayment, terms: Terms, now: int, approval: Approval | None
) -> None:
    if payment.amount < max(1, terms.min_deposit):
        raise refuse(
            "deposit_below_min_deposit",
            f"a deposit of {payment.amount}, at least {terms.min_deposit}",
        )
    authorization = payment.authorization(terms.collector)
    authorization.check(RECEIVE, terms.token, now=now, refuse=_refuse_deposit, approval=approval)


def _refuse_deposit(what: str, message: str) -> PaymentRefusedError:
    return refuse(_CODES[what], message)
