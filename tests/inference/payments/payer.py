"""A payer with a key: makes the payloads a client would send, honest unless told otherwise."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import Any

from eth_hash.auto import keccak

from inference.payments.account import OnchainChannel
from inference.payments.channel import ChannelConfig, Voucher, channel_id, parse_batch_payload
from inference.payments.eip3009 import RECEIVE, TRANSFER, Authorization, Token
from inference.payments.verification import Terms, VerifiedPayment, verify_payment
from registry.chain.deploy import CANONICAL_CHANNELS, CANONICAL_COLLECTOR
from registry.signing.signer import Signer

NOW = 1_800_000_000
NODE = Signer(b"\x22" * 32)
RECEIVER = "0x000000000000000000000000000000000000dEaD"
TOKEN = Token(31337, "0x1111111111111111111111111111111111111111", "DevUSD", "1")


def make_terms(**changes: Any) -> Terms:
    return replace(
        Terms(
            contract=CANONICAL_CHANNELS,
            collector=CANONICAL_COLLECTOR,
            receiver=RECEIVER,
            receiver_authorizer=NODE.address,
            token=TOKEN,
            withdraw_delay=900,
            min_deposit=0,
        ),
        **changes,
    )


TERMS = make_terms()


def onchain(balance: int, *, claimed: int = 0, block: int = 1, **more: int) -> OnchainChannel:
    facts = {"withdraw_amount": 0, "withdraw_requested_at": 0, "refund_nonce": 0, "read_at": NOW}
    return OnchainChannel(balance=balance, total_claimed=claimed, block=block, **(facts | more))


@dataclass
class Payer:
    terms: Terms = TERMS
    key: Signer = field(default_factory=lambda: Signer(b"\x11" * 32))
    salt: bytes = bytes(32)

    @property
    def config(self) -> ChannelConfig:
        return ChannelConfig(
            payer=self.key.address,
            payer_authorizer=self.key.address,
            receiver=self.terms.receiver,
            receiver_authorizer=self.terms.receiver_authorizer,
            token=self.terms.token.address,
            withdraw_delay=self.terms.withdraw_delay,
            salt=self.salt,
        )

    @property
    def channel_id(self) -> bytes:
        return channel_id(self.config, self.terms.domain)

    def voucher_json(self, ceiling: int) -> dict[str, Any]:
        digest = Voucher(self.channel_id, ceiling, b"").digest(self.terms.domain)
        return {
            "channelId": f"0x{self.channel_id.hex()}",
            "maxClaimableAmount": str(ceiling),
            "signature": f"0x{self.key.sign_digest(digest).hex()}",
        }

    def payload(self, kind: str, ceiling: int, **more: Any) -> dict[str, Any]:
        return {
            "type": kind,
            "channelConfig": self.config.to_json(),
            "voucher": self.voucher_json(ceiling),
            **more,
        }

    def deposit_json(
        self, amount: int, *, valid_before: int = NOW + 300, valid_after: int = 0
    ) -> dict[str, Any]:
        salt = secrets.token_bytes(32)
        authorization = self.authorize(
            RECEIVE,
            to=self.terms.collector,
            value=amount,
            valid_before=valid_before,
            valid_after=valid_after,
            nonce=keccak(self.channel_id + salt),
        )
        return {
            "amount": str(amount),
            "authorization": {
                "erc3009Authorization": {
                    "validAfter": str(valid_after),
                    "validBefore": str(valid_before),
                    "salt": f"0x{salt.hex()}",
                    "signature": f"0x{authorization.signature.hex()}",
                }
            },
        }

    def authorize(
        self,
        kind: Any = TRANSFER,
        *,
        to: str = RECEIVER,
        value: int = 0,
        valid_before: int = NOW + 300,
        valid_after: int = 0,
        nonce: bytes | None = None,
    ) -> Authorization:
        unsigned = Authorization(
            payer=self.key.address,
            to=to,
            value=value,
            valid_after=valid_after,
            valid_before=valid_before,
            nonce=nonce or secrets.token_bytes(32),
            signature=b"",
        )
        digest = unsigned.digest(kind, self.terms.token)
        return replace(unsigned, signature=self.key.sign_digest(digest))

    def pays(self, ceiling: int, *, now: int = NOW) -> VerifiedPayment:
        return self.verified(self.payload("voucher", ceiling), now=now)

    def deposits(self, ceiling: int, amount: int, *, now: int = NOW) -> VerifiedPayment:
        deposit = self.deposit_json(amount, valid_before=now + 300)
        return self.verified(self.payload("deposit", ceiling, deposit=deposit), now=now)

    def refunds(self, charged: int, amount: int | None = None) -> VerifiedPayment:
        more = {} if amount is None else {"amount": str(amount)}
        return self.verified(self.payload("refund", charged, **more))

    def verified(self, payload: dict[str, Any], *, now: int = NOW) -> VerifiedPayment:
        return verify_payment(parse_batch_payload(payload), self.terms, now=now)
