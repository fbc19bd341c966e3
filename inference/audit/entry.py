"""Log entries: one canonical JSON text each, the leaves of the log.

Kinds and what their body holds:

==============  ====================================================================
receipt         `{receipt, signature}`: what the payer got, less the salts
settlement      claims booked and tokens moved: claims, transactions, gas
anchor          a checkpoint that was written on chain: size, root, transaction
incident        the node noticed something wrong with itself
refusal         the node did not disclose a call to an auditor who had a right to it
start           a node opened the log: node, origin, chain, software version
==============  ====================================================================

No body holds a prompt or an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from inference.audit.document import FormatError
from inference.audit.merkle import leaf_hash
from registry.errors import CanonicalError
from registry.signing.canonical import MAX_INTEGER, JsonObject, decode_object, encode

FORMAT: Final = "weightproof/entry@1"
RECEIPT: Final = "receipt"
SETTLEMENT: Final = "settlement"
ANCHOR: Final = "anchor"
INCIDENT: Final = "incident"
REFUSAL: Final = "refusal"
START: Final = "start"
KINDS: Final = frozenset({RECEIPT, SETTLEMENT, ANCHOR, INCIDENT, REFUSAL, START})
# The length that a tile's entry bundle can tell. A receipt takes 16 KiB at the most, a claim of the
# 200 channels that fit a transaction 37: what the node has to say always fits.
MAX_BYTES: Final = 65_535
# Older logs may hold larger ones.
_MAX_READ_BYTES: Final = 256 * 1024
_KEYS: Final = frozenset({"format", "seq", "kind", "body"})


@dataclass(frozen=True)
class Entry:
    """One line of the log. `seq` is its index, counted from 0 without gaps."""

    seq: int
    kind: str
    body: JsonObject

    def __post_init__(self) -> None:
        """Refuse, with `FormatError`, a position or kind that cannot be."""
        if isinstance(self.seq, bool) or not 0 <= self.seq <= MAX_INTEGER:
            raise FormatError("seq", f"{self.seq!r:.60} is not a position")
        if self.kind not in KINDS:
            raise FormatError("kind", f"{self.kind!r:.60} is not a kind of entry known here")

    def to_json(self) -> JsonObject:
        """Return the JSON object."""
        return {"format": FORMAT, "seq": self.seq, "kind": self.kind, "body": self.body}

    def encode(self) -> bytes:
        """Return the canonical bytes. Raises `CanonicalError` for a body that has none."""
        return _bounded(encode(self.to_json()))

    def leaf(self) -> bytes:
        """Return the 32-byte leaf hash."""
        return leaf_hash(self.encode())


@dataclass(frozen=True)
class EncodedEntry:
    """A line of the log whose body is there as canonical text already."""

    seq: int
    kind: str
    body: str

    def encode(self) -> bytes:
        """Return the canonical bytes; keys in their order, all of them plain."""
        text = f'{{"body":{self.body},"format":"{FORMAT}","kind":"{self.kind}","seq":{self.seq}}}'
        return _bounded(text.encode())


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise FormatError("body", f"an entry of {len(data)} bytes, more than {MAX_BYTES}")
    return data


def parse_entry(data: bytes) -> Entry:
    """Read one entry's bytes. Raises `FormatError` for anything but one canonical entry."""
    try:
        value = decode_object(data, max_bytes=_MAX_READ_BYTES)
    except CanonicalError as error:
        raise FormatError("entry", str(error)) from error
    return entry_from(value)


def entry_from(value: object) -> Entry:
    """Read a decoded entry. Raises `FormatError` for anything but one entry."""
    if not isinstance(value, Mapping):
        raise FormatError("entry", "not an object")
    if value.get("format") != FORMAT:
        raise FormatError("format", f"{value.get('format')!r:.60} is not {FORMAT}")
    if value.keys() != _KEYS:
        odd = min(map(str, value.keys() ^ _KEYS))
        raise FormatError(odd[:60], "unknown field" if odd in value else "missing")
    seq, kind, body = value["seq"], value["kind"], value["body"]
    if not isinstance(seq, int) or not isinstance(kind, str) or not isinstance(body, dict):
        raise FormatError("entry", "seq is an integer, kind is text, body is an object")
    return Entry(seq, kind, body)
