"""A coupon: the operator's signed word that somebody's calls are free, up to a limit.

It travels as the header `Weightproof-Coupon` of a paid call, base64 of its canonical JSON. Whoever
holds one without a wallet may use it, and whoever copies it too: what all of them use adds up.
Signed with EIP-712 for one node of one chain.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, TypeAlias

from inference.audit.document import (
    ZERO_ADDRESS,
    Address,
    Amount,
    Count,
    Digest,
    Document,
    FormatError,
    Signature,
    TextKind,
)
from inference.errors import RequestError
from registry.errors import CanonicalError, SignatureError
from registry.signing.canonical import decode_object
from registry.signing.signer import Signer, recover
from registry.signing.typed_data import Domain, Struct

HEADER: Final = "weightproof-coupon"
_MAX_HEADER: Final = 4096

COUPON_STRUCT: Final = Struct(
    "Coupon",
    {
        "wallet": "address",
        "models": "string",
        "unit": "string",
        "limit": "uint256",
        "expiresAt": "uint64",
        "nonce": "bytes32",
    },
)
Unit: TypeAlias = Annotated[str, TextKind(r"calls|amount")]
# Names of models, with a comma between two; empty for all.
Models: TypeAlias = Annotated[str, TextKind(r"[ -~]*", limit=1000)]


class CouponRefusedError(RequestError):
    """A coupon that does not hold for this call; nothing was charged."""

    code = "coupon_refused"


@dataclass(frozen=True)
class Coupon(Document):
    """`limit` free calls, or list price of that amount, until unix second `expires_at`.

    `wallet` is who may use it, the zero address for its bearer.
    """

    FORMAT: ClassVar[str] = "weightproof/coupon@1"

    wallet: Address
    models: Models
    unit: Unit
    limit: Amount
    expires_at: Count
    nonce: Digest

    @property
    def is_bearers(self) -> bool:
        """Return whether whoever holds it may use it."""
        return self.wallet == ZERO_ADDRESS

    def digest(self, domain: Domain) -> bytes:
        """Return the 32 bytes that are signed; they name the coupon in receipts."""
        values = {k: v for k, v in self.to_json().items() if k != "format"}
        return COUPON_STRUCT.digest(
            domain.separator(), values | {"limit": self.limit, "nonce": self.nonce}
        )

    def signed(self, signer: Signer, domain: Domain) -> str:
        """Return the header's text."""
        signature = signer.sign_digest(self.digest(domain))
        return base64.b64encode(SignedCoupon(self, signature).encode()).decode()


@dataclass(frozen=True)
class SignedCoupon(Document):
    """A coupon as it travels."""

    coupon: Coupon
    signature: Signature


@dataclass(frozen=True)
class CouponGuard:
    """Reads coupons that `operator` signed for the node of `domain`."""

    domain: Domain
    operator: str

    def read(self, header: str, *, model: str, now: int) -> Coupon:
        """Return the coupon of a header. Raises `CouponRefusedError` unless it holds for a model.

        Whether it is the caller's, and whether anything is left, is known once the call is paid.
        """
        try:
            if len(header) > _MAX_HEADER:
                raise FormatError("", f"more than {_MAX_HEADER} bytes")
            value = decode_object(base64.b64decode(header, validate=True), max_bytes=_MAX_HEADER)
            signed = SignedCoupon.from_json(value, "coupon")
        except (binascii.Error, ValueError, CanonicalError, FormatError) as error:
            raise _refused(f"is not one: {error!s:.200}") from error
        coupon = signed.coupon
        try:
            signer = recover(coupon.digest(self.domain), signed.signature)
        except SignatureError:
            signer = ""
        if signer != self.operator:
            raise _refused("was not signed by this node's operator for this node")
        if now >= coupon.expires_at:
            raise _refused(f"ended at unix second {coupon.expires_at}")
        if coupon.models and model not in coupon.models.split(","):
            raise _refused(f"is for {coupon.models}")
        return coupon


def coupon_domain(chain_id: int, node: str) -> Domain:
    """Return the EIP-712 domain of coupons for the node with that address."""
    return Domain("Weightproof coupon", "1", chain_id, node)


def _refused(why: str) -> CouponRefusedError:
    return CouponRefusedError(f"the coupon {why}; nothing was charged", param=HEADER)
