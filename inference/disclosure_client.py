"""How an auditor gets a call disclosed: by a signed request, and a payer's consent if there is one.

What comes back is taken for nothing but what the receipt binds: the request by its salted hash,
the tokens by their digest. A refusal must bear the node's signature.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from inference.audit.beacon import EVERY
from inference.audit.disclosure import (
    MAX_BODY_BYTES,
    Consent,
    Disclosed,
    DisclosureRequest,
    Refusal,
)
from inference.audit.document import ZERO_ADDRESS, FormatError
from inference.audit.replay import Disclosure
from inference.errors import UnavailableError
from inference.receipts import SignedReceipt
from inference.remote import bounded
from registry.errors import ConfigError
from registry.signing.signer import Signer
from registry.signing.typed_data import Domain

PATH: Final = "/v1/disclosures"
# Hex doubles what is disclosed; ids and names come beside it.
_MAX_ANSWER_BYTES: Final = 3 * MAX_BODY_BYTES
_JSON: Final = {"content-type": "application/json"}


@dataclass(frozen=True)
class DisclosureClient:
    """Asks the node behind `http`, as `auditor`, with what payers consented to."""

    http: httpx.Client
    auditor: Signer
    node: str
    domain: Domain
    consents: Sequence[Consent] = ()

    def ask(self, signed: SignedReceipt) -> Disclosure | Refusal:
        """Return what is told of a call, or the node's signed refusal.

        Raises `UnavailableError` when the node does neither, `AuditError` (8) for a refusal that
        it did not sign.
        """
        request = DisclosureRequest.ask(
            self.auditor,
            self.domain,
            node=self.node,
            receipt=signed.receipt.id,
            at=int(time.time()),
            consent=self._consent(signed),
        )
        response, body = bounded(
            self.http,
            "POST",
            PATH,
            limit=_MAX_ANSWER_BYTES,
            content=request.encode(),
            headers=_JSON,
        )
        told = _object(body)
        try:
            if response.status_code == 200:
                found = Disclosed.from_json(told)
                return Disclosure(found.request, found.salts.request, found.output_ids)
            if response.status_code == 410:
                refusal = Refusal.from_json(told)
                refusal.check(self.node, self.domain)
                return refusal
        except FormatError as error:
            raise UnavailableError(f"the node disclosed nothing: {error.message}") from error
        raise UnavailableError(f"the node disclosed nothing: {_reason(told, response)}")

    def _consent(self, signed: SignedReceipt) -> Consent | None:
        """Return the consent that gives the best right to a call."""
        payer = signed.receipt.payment.payer
        fitting = [
            consent
            for consent in self.consents
            if (consent.payer, consent.node) == (payer, self.node)
            and consent.auditor in (ZERO_ADDRESS, self.auditor.address)
            and consent.receipt in ("", signed.receipt.id)
        ]
        return max(fitting, key=lambda c: (bool(c.receipt), c.rate, c.until), default=None)


def read_consent(path: Path) -> Consent:
    """Read a payer's consent. Raises `ConfigError`."""
    try:
        return Consent.from_json(json.loads(path.read_text()))
    except (OSError, ValueError, FormatError) as error:
        raise ConfigError(f"{path.name} holds no consent: {error}") from error


def consent(
    payer: Signer,
    domain: Domain,
    *,
    node: str,
    auditor: str,
    receipt: str,
    rate: int,
    days: int,
    wallet: str = "",
) -> Consent:
    """Sign a payer's consent, for `days` from now; an empty `auditor` is anybody.

    `wallet` is the contract that paid, where it was one; it must take the key's signature.
    """
    return Consent.give(
        payer,
        domain,
        node=node,
        until=int(time.time()) + days * 24 * 3600,
        auditor=auditor or ZERO_ADDRESS,
        receipt=receipt,
        rate=EVERY if receipt else rate,
        wallet=wallet,
    )


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _reason(told: Mapping[str, Any], response: httpx.Response) -> str:
    error = told.get("error")
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return f"{error['message']:.200}"
    return f"status {response.status_code}"
