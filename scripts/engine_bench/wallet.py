"""A payer as lean as a load client needs: one channel for each worker, one request for each call.

The official client asks first and pays then, and takes milliseconds for it. Here the quote is
known from the 402 of an equal request, and each call carries the next voucher at once.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from engine_bench.stream import Received
from inference.errors import PaymentRefusedError
from inference.payments.channel import SCHEME, ChannelConfig, Voucher, channel_id, separator
from inference.payments.eip3009 import RECEIVE, Authorization, Token
from inference.payments.x402 import PAYMENT_REQUIRED, PAYMENT_RESPONSE, VERSION, decode_header
from registry.chain.deploy import Deployment
from registry.signing.keccak import keccak
from registry.signing.signer import Signer

_VALID_S: Final = 300


class Wallet:
    """One channel. `headers` pays for the next call, `book` reads what it was charged."""

    def __init__(
        self, key: Signer, contracts: Deployment, demand: Received, *, number: int
    ) -> None:
        """Read the terms of `demand`, a 402; `number` tells the channels of one key apart."""
        required: Mapping[str, Any] = decode_header(demand.header(PAYMENT_REQUIRED))
        self._accepted: Final = next(a for a in required["accepts"] if a["scheme"] == SCHEME)
        self._resource: Final = required["resource"]
        self._quote: Final = int(self._accepted["amount"])
        self._key: Final = key
        self._collector: Final = contracts.deposit_collector
        self._domain: Final = separator(contracts.chain_id, contracts.payment_channels)
        extra = self._accepted["extra"]
        asset = str(self._accepted["asset"])
        self._token: Final = Token(contracts.chain_id, asset, extra["name"], extra["version"])
        self._config: Final = ChannelConfig(
            payer=key.address,
            payer_authorizer=key.address,
            receiver=self._accepted["payTo"],
            receiver_authorizer=extra["receiverAuthorizer"],
            token=asset,
            withdraw_delay=extra["withdrawDelay"],
            salt=number.to_bytes(32, "big"),
        )
        self._id: Final = channel_id(self._config, self._domain)
        self._charged = 0

    def headers(self, *, deposit: int = 0) -> dict[str, str]:
        """Return the payment of the next call; the first one brings a deposit, in atomic units."""
        payload = {
            "type": "deposit" if deposit else "voucher",
            "channelConfig": self._config.to_json(),
            "voucher": self._voucher(self._charged + self._quote),
        }
        if deposit:
            payload["deposit"] = self._deposit(deposit)
        payment = {
            "x402Version": VERSION,
            "accepted": self._accepted,
            "payload": payload,
            "resource": self._resource,
        }
        encoded = base64.b64encode(json.dumps(payment, separators=(",", ":")).encode())
        return {"PAYMENT-SIGNATURE": encoded.decode()}

    def ahead(self, count: int) -> list[dict[str, str]]:
        """Return the payments of the next calls, of which each will cost its whole quote."""
        payments = []
        for _ in range(count):
            payments.append(self.headers())
            self._charged += self._quote
        return payments

    def book(self, answer: Received) -> None:
        """Take the cumulative charge from an answer. Raises `PaymentRefusedError`."""
        if answer.status != 200:
            demand = answer.header(PAYMENT_REQUIRED)
            why = decode_header(demand).get("error") if demand else answer.split()[1][:300]
            raise PaymentRefusedError("bench", f"the answer was {answer.status}: {why!r}")
        settled: Mapping[str, Any] = decode_header(answer.header(PAYMENT_RESPONSE))
        self._charged = int(settled["extra"]["channelState"]["chargedCumulativeAmount"])

    def _voucher(self, ceiling: int) -> dict[str, object]:
        digest = Voucher(self._id, ceiling, b"").digest(self._domain)
        return {
            "channelId": f"0x{self._id.hex()}",
            "maxClaimableAmount": str(ceiling),
            "signature": f"0x{self._key.sign_digest(digest).hex()}",
        }

    def _deposit(self, amount: int) -> dict[str, object]:
        salt = secrets.token_bytes(32)
        unsigned = Authorization(
            payer=self._key.address,
            to=self._collector,
            value=amount,
            valid_after=0,
            valid_before=int(time.time()) + _VALID_S,
            nonce=keccak(self._id + salt),
            signature=b"",
        )
        digest = unsigned.digest(RECEIVE, self._token)
        signed = replace(unsigned, signature=self._key.sign_digest(digest))
        return {
            "amount": str(amount),
            "authorization": {
                "erc3009Authorization": {
                    "validAfter": "0",
                    "validBefore": str(signed.valid_before),
                    "salt": f"0x{salt.hex()}",
                    "signature": f"0x{signed.signature.hex()}",
                }
            },
        }
