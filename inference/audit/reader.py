"""Reads a node's log over HTTP, as anybody can. Nothing it returns is trusted.

Answers are bounded in size. A node that does not answer at all is `UnavailableError`: nothing is
known. A node that answers something else than it should is `BadAnswerError`: the answer itself is
the evidence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, TypeVar

import httpx

from inference.audit.document import (
    Address,
    Amount,
    BytesKind,
    Count,
    Digest,
    Document,
    FormatError,
    Signature,
    Text,
    TextKind,
)
from inference.audit.log import MAX_PAGE
from inference.audit.note import VerifierKey
from inference.audit.note_key import bound_key
from inference.errors import NodeError
from inference.price_facts import PriceOffer
from inference.remote import bounded
from registry.signing.typed_data import Domain

# A page of a thousand entries is about 3 MiB.
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
# A tree of 2^63 leaves has proofs of at most 2 · 63 hashes.
_MAX_PROOF: Final = 128
_EXCERPT_BYTES: Final = 500
_HASH: Final = BytesKind(32)

DocumentT = TypeVar("DocumentT", bound=Document)


class BadAnswerError(NodeError):
    """The node answered, but not what was asked. `evidence` holds the question and the answer."""

    exit_code = 6

    def __init__(self, message: str, *, evidence: dict[str, object]) -> None:
        super().__init__(message)
        self.evidence = evidence


@dataclass(frozen=True)
class LogIdentity(Document):
    """Whose log a node says it keeps, on which chain it is anchored, and how long it is."""

    FORMAT: ClassVar[str] = "weightproof/log@1"

    origin: Text
    node: Address
    chain: Count
    anchor: Address
    registry: Address
    size: Count


@dataclass(frozen=True)
class KeyedLogIdentity(LogIdentity):
    """As above, with the key of the log's C2SP notes and the node's signature over that key."""

    FORMAT: ClassVar[str] = "weightproof/log@2"

    vkey: Annotated[str, TextKind(r"[!-~]+", limit=300)]
    vkey_signature: Signature

    def note_key(self, node: str, domain: Domain) -> VerifierKey:
        """Return the key, if `node` states it. Raises `NoteError`."""
        return bound_key(self.vkey, self.vkey_signature, node, self.origin, domain)


@dataclass(frozen=True)
class LedgerState(Document):
    """What a node's ledger says of a channel when its log had `size` entries.

    `cumulative` is what all finished calls cost together; amounts in atomic units.
    """

    channel_id: Digest
    cumulative: Amount
    signed_max: Amount
    balance: Amount
    total_claimed: Amount
    size: Count


class LogReader:
    """A node's public endpoints. `client` carries the base address and the timeouts."""

    def __init__(self, client: httpx.Client, *, cosigned: bool = False) -> None:
        """Read by `client`; `cosigned` asks for heads that were shown to witnesses."""
        self._client = client
        self._head = "/log/checkpoint" if cosigned else "/v1/log/checkpoint"

    def identity(self) -> LogIdentity:
        """Return whose log this is, by the node's own word."""
        answer = self._get("/v1/log")
        keyed = answer.format() == KeyedLogIdentity.FORMAT
        return answer.document(KeyedLogIdentity if keyed else LogIdentity)

    def stated(self) -> LogIdentity | None:
        """As `identity`; None where the node was not asked, as for an older bundle."""
        return self.identity()

    def note(self) -> str:
        """Return the newest signed checkpoint, or the newest that witnesses were asked about."""
        return self._get(self._head).text()

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of entries [start, end); `BadAnswerError` when some are missing."""
        while start < end:
            query = {"start": start, "end": min(end, start + MAX_PAGE)}
            answer = self._get("/v1/log/entries", query)
            page = answer.texts("entries")
            if not page or len(page) > query["end"] - start:
                raise answer.bad(f"{len(page)} entries for {query['end'] - start}")
            for text in page:
                # Lone surrogates have no bytes; the parser of entries refuses what replaces them.
                yield text.encode("utf-8", errors="replace")
            start += len(page)

    def inclusion_proof(self, seq: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that entry `seq` is in the log of `size`."""
        return self._proof("/v1/log/proof/inclusion", seq=seq, size=size)

    def consistency_proof(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the log of `new` begins with the log of `old`."""
        return self._proof("/v1/log/proof/consistency", old=old, new=new)

    def ledger(self, channel_id: bytes) -> LedgerState:
        """Return what the node's ledger says of a channel."""
        answer = self._get(f"/v1/channels/0x{channel_id.hex()}")
        state = answer.document(LedgerState)
        if state.channel_id != channel_id:
            raise answer.bad("the state of another channel")
        return state

    def price_offer(self, digest: bytes) -> PriceOffer:
        """Return the price offer with a digest, which receipts name."""
        answer = self._get(f"/v1/prices/0x{digest.hex()}")
        offer = answer.document(PriceOffer)
        if offer.digest != digest:
            raise answer.bad("another price offer")
        return offer

    def _proof(self, path: str, **query: int) -> tuple[bytes, ...]:
        answer = self._get(path, query)
        hashes = answer.texts("proof")
        if len(hashes) > _MAX_PROOF:
            raise answer.bad(f"a proof of {len(hashes)} hashes")
        try:
            return tuple(_HASH.load(text, "proof") for text in hashes)
        except FormatError as error:
            raise answer.bad(error.message) from error

    def _get(self, path: str, query: Mapping[str, int] | None = None) -> _Answer:
        """Ask once, and read no more than an answer may be long."""
        response, body = bounded(
            self._client, "GET", path, limit=MAX_ANSWER_BYTES, params=dict(query or {})
        )
        answer = _Answer(str(response.url), response.status_code, body)
        if len(body) > MAX_ANSWER_BYTES:
            raise answer.bad(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        if response.status_code != 200:
            raise answer.bad(f"status {response.status_code}")
        return answer


@dataclass(frozen=True)
class _Answer:
    url: str
    status: int
    body: bytes

    def bad(self, why: str) -> BadAnswerError:
        """Return the error that says why this answer will not do, with the answer."""
        shown = self.body[:_EXCERPT_BYTES].decode("utf-8", errors="replace")
        evidence = {"url": self.url, "status": self.status, "answer": shown}
        return BadAnswerError(f"the node's answer to {self.url}: {why}", evidence=evidence)

    def text(self) -> str:
        """Return the body as text."""
        try:
            return self.body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.bad("not UTF-8") from error

    def document(self, kind: type[DocumentT]) -> DocumentT:
        """Return the body as a document."""
        try:
            return kind.from_json(self._object())
        except FormatError as error:
            raise self.bad(error.message) from error

    def format(self) -> object:
        """Return what the body says it is."""
        return self._object().get("format")

    def texts(self, name: str) -> list[str]:
        """Return the list of texts in field `name`."""
        items = self._object().get(name)
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise self.bad(f"{name} is not a list of texts")
        return items

    def _object(self) -> dict[str, Any]:
        try:
            value = json.loads(self.text())
        except (ValueError, RecursionError) as error:
            raise self.bad("not JSON") from error
        if not isinstance(value, dict):
            raise self.bad("not a JSON object")
        return value
