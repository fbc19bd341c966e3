"""JSON Schemas (draft 2020-12) of our formats, made from the same kinds that parse them.

A schema says of a decoded value all that its parser asks, but for four rules that JSON Schema has
no words for: the checksum in an address's capitals (EIP-55), amounts below 2^256, fields that must
agree with one another, and that a text has to be canonical (RFC 8785).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from inference.audit.bodies import BODIES
from inference.audit.document import (
    AddressKind,
    AmountKind,
    BytesKind,
    CountKind,
    Document,
    FormatError,
    Kind,
    ListKind,
    NestedKind,
    OptionalKind,
    TextKind,
)
from inference.audit.entry import FORMAT as ENTRY_FORMAT
from inference.audit.entry import RECEIPT
from inference.audit.evidence import LIES
from inference.audit.field_kinds import MAX_ID, Base64Kind, BlobKind, IdsKind, ManyKind
from inference.proof import EntryKind
from inference.receipt_format import PlannedReceipt, Receipt, ReceiptKind
from inference.receipts import LoggedReceipt

# True and false have a meaning in schemas, and none in canonical JSON.
Schema: TypeAlias = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
# Groups of four, and an end whose unused bits are zero.
_BASE64: Final = (
    "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"
)


def schema_of(document: type[Document], name: str) -> Schema:
    """Return the schema of a document, named `urn:weightproof:NAME`."""
    writer = _Writer()
    return _published(name, writer.document(document), writer)


def schema_of_entry(name: str) -> Schema:
    """Return the schema of a log entry of any kind."""
    writer = _Writer()
    return _published(name, writer.entry(), writer)


def schema_of_evidence(name: str) -> Schema:
    """Return the schema of evidence of any lie."""
    writer = _Writer()
    shapes = [writer.document(lie) for lie in LIES.values()]
    return _published(name, {"description": "A lie, by its own words.", "oneOf": shapes}, writer)


def _published(name: str, root: Schema, writer: _Writer) -> Schema:
    return {"$schema": DIALECT, "$id": f"urn:weightproof:{name}", **root, "$defs": writer.defs}


@dataclass
class _Writer:
    """Writes one schema; documents inside it are named once, in `defs`."""

    defs: Schema = field(default_factory=dict)

    def document(self, document: type[Document]) -> Schema:
        """Return the schema of a document's object."""
        properties: Schema = {}
        if document.FORMAT:
            properties["format"] = {"const": document.FORMAT}
        for key, kind in document.FIELDS.values():
            properties[key] = self.value(kind)
        text = (document.__doc__ or "").partition("\n")[0]
        return {
            "description": text,
            "type": "object",
            "properties": properties,
            "required": [key for key in properties if key not in document.may_lack()],
            "additionalProperties": False,
        }

    def entry(self) -> Schema:
        """Return the schema of a log entry: one shape for each kind."""
        shapes: list[Schema] = []
        bodies: dict[str, type[Document]] = {RECEIPT: LoggedReceipt, **BODIES}
        for kind, body in bodies.items():
            properties: Schema = {
                "format": {"const": ENTRY_FORMAT},
                "seq": self.value(CountKind()),
                "kind": {"const": kind},
                "body": self.reference(body),
            }
            shapes.append(
                {
                    "type": "object",
                    "properties": properties,
                    "required": list(properties),
                    "additionalProperties": False,
                }
            )
        return {"description": "One line of the log.", "oneOf": shapes}

    def reference(self, document: type[Document]) -> Schema:
        """Return a reference to a document's schema, which is written if it was not yet."""
        name = document.__name__
        if name not in self.defs:
            self.defs[name] = {}
            self.defs[name] = self.document(document)
        return {"$ref": f"#/$defs/{name}"}

    def value(self, kind: Kind) -> Schema:
        """Return the schema of one field's value."""
        match kind:
            case OptionalKind():
                return self.value(kind.kind)
            case EntryKind():
                self.defs.setdefault("Entry", self.entry())
                return {"$ref": "#/$defs/Entry"}
            case ReceiptKind():
                return {"oneOf": [self.reference(Receipt), self.reference(PlannedReceipt)]}
            case NestedKind():
                return self.reference(kind.document)
            case ListKind():
                items = self.reference(kind.document)
                return {"type": "array", "items": items, "maxItems": kind.limit}
            case ManyKind():
                return {"type": "array", "items": self.value(kind.kind), "maxItems": kind.limit}
            case _:
                return _plain(kind)


def _plain(kind: Kind) -> Schema:
    match kind:
        case TextKind():
            pattern = f"^(?:{kind.pattern})$"
            return {"type": "string", "pattern": pattern, "maxLength": kind.limit}
        case CountKind():
            return {"type": "integer", "minimum": 0, "maximum": kind.limit}
        case AmountKind():
            pattern = "^(?:0|[1-9][0-9]{0,77})$"
            return {"type": "string", "pattern": pattern, "description": "Below 2^256."}
        case BytesKind():
            return {"type": "string", "pattern": f"^0x[0-9a-f]{{{2 * kind.size}}}$"}
        case AddressKind():
            text = "An address; its capitals are its checksum (EIP-55)."
            return {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$", "description": text}
        case BlobKind():
            digits = "^0x(?:[0-9a-f]{2})*$"
            return {"type": "string", "pattern": digits, "maxLength": 2 + 2 * kind.limit}
        case IdsKind():
            id = {"type": "integer", "minimum": 0, "maximum": MAX_ID}
            return {"type": "array", "items": id, "maxItems": kind.limit}
        case Base64Kind():
            return {
                "type": "string",
                "contentEncoding": "base64",
                "pattern": _BASE64,
                "maxLength": kind.characters,
            }
    raise FormatError(type(kind).__name__, "a kind that has no schema")
