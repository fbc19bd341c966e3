"""Channels and vouchers of x402's `batch-settlement` on EVM: what a payer signs, as values.

A channel is named by the EIP-712 digest of its config; a voucher raises the cumulative ceiling
the receiver may claim from it. Source: x402 v2, scheme `batch-settlement`;
`tests/vectors/x402_vectors.json` pins every digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from inference.errors import PaymentRefusedError
from inference.payments.eip3009 import Authorization
from inference.payments.fields import Fields
from registry.signing.keccak import keccak
from registry.signing.typed_data import Domain, Struct

SCHEME: Final = "batch-settlement"
# Seconds; the contract refuses channels outside.
MIN_WITHDRAW_DELAY_S: Final = 900
MAX_WITHDRAW_DELAY_S: Final = 2_592_000
NOBODY: Final = "0x0000000000000000000000000000000000000000"

CONFIG: Final = Struct(
    "ChannelConfig",
    {
        "payer": "address",
        "payerAuthorizer": "address",
        "receiver": "address",
        "receiverAuthorizer": "address",
        "token": "address",
        "withdrawDelay": "uint40",
        "salt": "bytes32",
    },
)
VOUCHER: Final = Struct("Voucher", {"channelId": "bytes32", "maxClaimableAmount": "uint128"})
REFUND: Final = Struct("Refund", {"channelId": "bytes32", "nonce": "uint256", "amount": "uint128"})
CLAIM_ENTRY: Final = Struct(
    "ClaimEntry",
    {"channelId": "bytes32", "maxClaimableAmount": "uint128", "totalClaimed": "uint128"},
)
CLAIM_BATCH: Final = Struct("ClaimBatch", {"claims": "ClaimEntry[]"}, {"ClaimEntry": CLAIM_ENTRY})


def refuse(code: str, message: str) -> PaymentRefusedError:
    """Return the error of a batch-settlement code, given without its long prefix."""
    return PaymentRefusedError(f"invalid_batch_settlement_evm_{code}", message)


@lru_cache(maxsize=8)
def separator(chain_id: int, contract: str) -> bytes:
    """Return the channels contract's EIP-712 domain separator, 32 bytes."""
    return Domain("x402 Batch Settlement", "1", chain_id, contract).separator()


@dataclass(frozen=True)
class ChannelConfig:
    """What a channel is. `withdraw_delay` is in seconds, `salt` 32 bytes."""

    payer: str
    payer_authorizer: str
    receiver: str
    receiver_authorizer: str
    token: str
    withdraw_delay: int
    salt: bytes

    @classmethod
    def parse(cls, fields: Fields) -> ChannelConfig:
        """Read x402's ChannelConfig object."""
        return cls(
            payer=fields.address("payer"),
            payer_authorizer=fields.address("payerAuthorizer"),
            receiver=fields.address("receiver"),
            receiver_authorizer=fields.address("receiverAuthorizer"),
            token=fields.address("token"),
            withdraw_delay=fields.integer("withdrawDelay", high=2**40 - 1),
            salt=fields.bytes32("salt"),
        )

    def to_json(self) -> dict[str, object]:
        """Return x402's ChannelConfig object."""
        return {
            "payer": self.payer,
            "payerAuthorizer": self.payer_authorizer,
            "receiver": self.receiver,
            "receiverAuthorizer": self.receiver_authorizer,
            "token": self.token,
            "withdrawDelay": self.withdraw_delay,
            "salt": f"0x{self.salt.hex()}",
        }


@lru_cache(maxsize=4096)
def channel_id(config: ChannelConfig, domain: bytes) -> bytes:
    """Return the channel's 32-byte id on the contract with this domain separator."""
    values = config.to_json() | {"salt": config.salt}
    return CONFIG.digest(domain, values)


@dataclass(frozen=True)
class Voucher:
    """A signed cumulative ceiling, in atomic units. It neither expires nor has a nonce."""

    channel_id: bytes
    max_claimable: int
    signature: bytes

    def digest(self, domain: bytes) -> bytes:
        """Return the 32 bytes that are signed."""
        return VOUCHER.digest(
            domain, {"channelId": self.channel_id, "maxClaimableAmount": self.max_claimable}
        )


@dataclass(frozen=True)
class VoucherPayment:
    """A paid call on an open channel."""

    config: ChannelConfig
    voucher: Voucher


@dataclass(frozen=True)
class DepositPayment:
    """A paid call that first opens or tops up its channel with `amount`."""

    config: ChannelConfig
    voucher: Voucher
    amount: int
    valid_after: int
    valid_before: int
    salt: int
    signature: bytes

    def authorization(self, collector: str) -> Authorization:
        """Return what the payer authorised: the collector may fetch the deposit."""
        nonce = keccak(self.voucher.channel_id + self.salt.to_bytes(32, "big"))
        return Authorization(
            payer=self.config.payer,
            to=collector,
            value=self.amount,
            valid_after=self.valid_after,
            valid_before=self.valid_before,
            nonce=nonce,
            signature=self.signature,
        )


@dataclass(frozen=True)
class RefundPayment:
    """A request for money back: `amount`, or all that is left when None."""

    config: ChannelConfig
    voucher: Voucher
    amount: int | None


BatchPayment: TypeAlias = VoucherPayment | DepositPayment | RefundPayment


def parse_batch_payload(payload: Mapping[str, object]) -> BatchPayment:
    """Read the `payload` of a batch-settlement payment. Raises `PaymentRefusedError`."""
    match payload.get("type"):
        case "voucher":
            fields = _fields(payload, "voucher_payload")
            return VoucherPayment(*_config_and_voucher(fields))
        case "deposit":
            return _deposit(_fields(payload, "deposit_payload"))
        case "refund":
            fields = _fields(payload, "refund_payload")
            config, voucher = _config_and_voucher(fields)
            return RefundPayment(config, voucher, _refund_amount(payload))
    raise refuse("payload_type", f"payload.type is {payload.get('type')!r:.40}")


def _fields(payload: Mapping[str, object], code: str) -> Fields:
    return Fields(payload, "payload", lambda message: refuse(code, message))


def _config_and_voucher(fields: Fields) -> tuple[ChannelConfig, Voucher]:
    voucher = fields.nested("voucher")
    return ChannelConfig.parse(fields.nested("channelConfig")), Voucher(
        channel_id=_named_channel(voucher),
        max_claimable=voucher.amount("maxClaimableAmount", bits=128),
        signature=voucher.hex("signature"),
    )


def _named_channel(voucher: Fields) -> bytes:
    # A name of the wrong shape has a code of its own, which clients tell apart.
    return voucher.refusing(lambda message: refuse("channel_id_invalid", message)).bytes32(
        "channelId"
    )


def _deposit(fields: Fields) -> DepositPayment:
    config, voucher = _config_and_voucher(fields)
    deposit = fields.nested("deposit")
    authorization = deposit.nested("authorization").nested("erc3009Authorization")
    return DepositPayment(
        config,
        voucher,
        amount=deposit.amount("amount", bits=128),
        valid_after=authorization.amount("validAfter", bits=256),
        valid_before=authorization.amount("validBefore", bits=256),
        salt=int.from_bytes(authorization.bytes32("salt"), "big"),
        signature=authorization.hex("signature"),
    )


def _refund_amount(payload: Mapping[str, object]) -> int | None:
    fields = _fields(payload, "refund_amount_invalid")
    if not fields.has("amount"):
        return None
    amount = fields.amount("amount", bits=128)
    if not amount:
        raise refuse("refund_amount_invalid", "a refund of 0")
    return amount
