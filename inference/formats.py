"""The formats that are published: what each is of, and its JSON Schema."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final

from inference.audit.disclosure import Consent, Disclosed, DisclosureRequest, Refusal
from inference.audit.document import Document
from inference.audit.reader import KeyedLogIdentity, LedgerState, LogIdentity
from inference.coupon import Coupon
from inference.errors import ModelUnknownError
from inference.json_schema import Schema, schema_of, schema_of_entry, schema_of_evidence
from inference.price_facts import PriceOffer
from inference.proof import Proof
from inference.receipt_format import PlannedReceipt, Receipt
from inference.receipts import ReceiptBundle
from inference.resident_statement import ResidentStatement, SignedStatement


class FormatUnknownError(ModelUnknownError):
    """No format of this name is published."""

    code = "not_found"
    exit_code = 2


@dataclass(frozen=True)
class Format:
    """One published format. `about` is a sentence that says what has it."""

    name: str
    about: str
    make: Callable[[str], Schema]

    @cached_property
    def schema(self) -> Schema:
        """The JSON Schema, draft 2020-12."""
        return self.make(self.name)


def _of(name: str, about: str, document: type[Document]) -> Format:
    return Format(name, about, partial(schema_of, document))


_ALL: Final = (
    _of("receipt@1", "The node's statement about one call.", Receipt),
    _of("receipt@2", "Format 1 and how a plan made the charge.", PlannedReceipt),
    _of("receipt-bundle@1", "A receipt, its signature and the payer's salts.", ReceiptBundle),
    Format("entry@1", "One line of the audit log.", schema_of_entry),
    _of("log@1", "Whose log it is, and how long.", LogIdentity),
    _of("log@2", "Format 1 and the key of the log's notes: GET /v1/log.", KeyedLogIdentity),
    _of("proof@1", "A log entry with all that shows it is logged.", Proof),
    _of("channel@1", "The ledger's word on a channel: GET /v1/channels/{id}.", LedgerState),
    _of("prices@1", "A price offer, which receipts of format 2 name.", PriceOffer),
    _of("coupon@1", "What a coupon is good for.", Coupon),
    Format("evidence@1", "Two statements of a node that cannot both be true.", schema_of_evidence),
    _of("consent@1", "Whom a payer lets see its calls.", Consent),
    _of("disclosure-request@1", "An auditor's request to be shown a call.", DisclosureRequest),
    _of("disclosure@1", "What a node tells of a call: POST /v1/disclosures.", Disclosed),
    _of("disclosure-refusal@1", "A node's signed word that it does not tell, in its log.", Refusal),
    _of("resident-statement@1", "What a node found in its memory.", ResidentStatement),
    _of("resident-bundle@1", "The same, with the node's signature.", SignedStatement),
)
FORMATS: Final = {one.name: one for one in _ALL}


def find_format(name: str) -> Format:
    """Return a format by its name. Raises `FormatUnknownError` that lists them."""
    found = FORMATS.get(name.removeprefix("weightproof/"))
    if found is None:
        raise FormatUnknownError(
            f"no format {name!r:.60} is published", hint=f"there are: {', '.join(FORMATS)}"
        )
    return found
