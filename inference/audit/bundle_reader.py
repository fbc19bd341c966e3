"""Answers an audit from a bundle, as node and chain answered when it was saved."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Final, NoReturn, TypeVar

from inference.audit import merkle
from inference.audit.anchor import AnchorEvent
from inference.audit.bundle import Bundle, BundleError
from inference.audit.bundle_writer import attestation_question, record_question
from inference.audit.chain_view import ChainView, ChannelState
from inference.audit.document import BytesKind, Document, FormatError
from inference.audit.merkle import ProofError
from inference.audit.reader import (
    BadAnswerError,
    KeyedLogIdentity,
    LedgerState,
    LogIdentity,
    LogReader,
)
from inference.audit.told_facts import (
    AnchorFacts,
    AttestationFacts,
    BlockFact,
    ChannelFact,
    NothingFact,
    RecordFact,
    RefusedFact,
    TransferFacts,
    UsedFact,
)
from inference.audit.transfers import Transfer
from inference.price_facts import PriceOffer
from registry.attestation import Attestation
from registry.chain.block import Block
from registry.errors import ChainMismatchError, TransactionFailedError
from registry.record import Record
from registry.signing.canonical import JsonValue

DocumentT = TypeVar("DocumentT", bound=Document)
_MAX_PROOF: Final = 128
_HASH: Final = BytesKind(32)
_ORIGIN_CHARS: Final = 200


class _Told:
    """Looks answers up. Raises `BundleError` for a question that was not asked."""

    def __init__(self, bundle: Bundle) -> None:
        self._answers = bundle.tail.answers

    def holds(self, question: str) -> bool:
        """Say whether `question` was asked."""
        return question in self._answers

    def value(self, question: str) -> JsonValue:
        """Return the JSON that answers `question`; a refusal is raised as it was."""
        if question not in self._answers:
            raise BundleError(f"the bundle was not told: {question:.120}")
        value: JsonValue = self._answers[question]
        if isinstance(value, dict) and "refused" in value:
            _refuse(question, self._read(question, RefusedFact, value))
        return value

    def document(self, question: str, kind: type[DocumentT]) -> DocumentT:
        """Return the document that answers `question`."""
        return self._read(question, kind, self.value(question))

    def texts(self, question: str, limit: int) -> list[str]:
        """Return the list of texts that answers `question`."""
        value = self.value(question)
        if not isinstance(value, list) or len(value) > limit:
            raise BundleError(f"the bundle's answer to {question:.120}: not a list of {limit}")
        if not all(isinstance(item, str) for item in value):
            raise BundleError(f"the bundle's answer to {question:.120}: not a list of texts")
        return [str(item) for item in value]

    def hashes(self, question: str) -> tuple[bytes, ...] | None:
        """Return the proof that answers `question`; None if it was not asked."""
        if question not in self._answers:
            return None
        try:
            return tuple(_HASH.load(t, "proof") for t in self.texts(question, _MAX_PROOF))
        except FormatError as error:
            raise BundleError(f"the bundle's answer to {question}: {error.message}") from error

    def _read(self, question: str, kind: type[DocumentT], value: JsonValue) -> DocumentT:
        try:
            return kind.from_json(value)
        except FormatError as error:
            raise BundleError(f"the bundle's answer to {question:.120}: {error.message}") from error


class BundledLog(LogReader):
    """The log as it was shown. Proofs that nobody asked for then are computed from its entries."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._told = _Told(bundle)
        self._leaves: list[bytes] = []

    def stated(self) -> LogIdentity | None:
        """Return whose log it was; None in a bundle of a time when nobody asked."""
        if not self._told.holds("identity"):
            return None
        value = self._told.value("identity")
        named = value.get("format") if isinstance(value, dict) else None
        keyed = named == KeyedLogIdentity.FORMAT
        return self._told.document("identity", KeyedLogIdentity if keyed else LogIdentity)

    def note(self) -> str:
        """Return the signed checkpoint."""
        value = self._told.value("note")
        if not isinstance(value, str):
            raise BundleError("the bundle's checkpoint is no text")
        return value

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of entries [start, end)."""
        yield from islice(self._bundle.entries(), start, end)
        if start < end and end > self._bundle.tail.entries:
            text = f"the bundle holds {self._bundle.tail.entries} entries, not {end}"
            raise BadAnswerError(text, evidence={"entries": self._bundle.tail.entries})

    def inclusion_proof(self, seq: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that entry `seq` is in the log of `size`."""
        told = self._told.hashes(f"inclusion {seq} {size}")
        return told or self._proved(lambda node: merkle.inclusion_proof(seq, size, node), size)

    def consistency_proof(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the log of `new` begins with the log of `old`."""
        told = self._told.hashes(f"consistency {old} {new}")
        return told or self._proved(lambda node: merkle.consistency_proof(old, new, node), new)

    def ledger(self, channel_id: bytes) -> LedgerState:
        """Return what the node's ledger said of a channel."""
        return self._told.document(f"ledger 0x{channel_id.hex()}", LedgerState)

    def price_offer(self, digest: bytes) -> PriceOffer:
        """Return the price offer with a digest."""
        offer = self._told.document(f"offer 0x{digest.hex()}", PriceOffer)
        if offer.digest != digest:
            raise BundleError(f"the bundle's offer 0x{digest.hex()} is another one")
        return offer

    def _proved(
        self, prove: Callable[[merkle.NodeSource], tuple[bytes, ...]], size: int
    ) -> tuple[bytes, ...]:
        if not self._leaves:
            self._leaves = [merkle.leaf_hash(data) for data in self._bundle.entries()]
        try:
            if size > len(self._leaves):
                raise ProofError(f"the bundle holds {len(self._leaves)} entries, not {size}")
            return prove(merkle.nodes_of(self._leaves))
        except ProofError as error:
            raise BadAnswerError(error.message, evidence={"size": size}) from error


class BundledChain(ChainView):
    """The chain as it answered. Only `BundleError` says that it was not asked."""

    def __init__(self, bundle: Bundle) -> None:
        self._head = bundle.head
        self._told = _Told(bundle)

    def anchored(self, node: str, origin: str) -> Sequence[AnchorEvent]:
        """Return every anchored head of a log, oldest first."""
        if (node, origin) != (self._head.node, self._head.origin):
            raise BundleError(f"the bundle is of {self._head.node}'s log {self._head.origin!r:.80}")
        return self._told.document("anchored", AnchorFacts).events()

    def origins(self, node: str) -> Sequence[str]:
        """Return the names under which the node anchored logs."""
        found = self._told.texts("origins", 1_000_000)
        if any(len(name) > _ORIGIN_CHARS for name in found):
            raise BundleError("the bundle's origins are no names of logs")
        return found

    def block_at(self, number: int) -> Block:
        """Return block `number`."""
        return self._told.document(f"block {number}", BlockFact).block()

    def record(self, model_id: bytes, block: Block | None) -> Record | None:
        """Return a model's record at a block, or at the head; None where there was none."""
        question = record_question(model_id, block)
        value = self._told.value(question)
        if isinstance(value, dict) and "none" in value:
            self._told.document(question, NothingFact)
            return None
        try:
            found = self._told.document(question, RecordFact).record()
        except FormatError as error:
            raise BundleError(f"the bundle's answer to {question}: {error.message}") from error
        if found.id != model_id:
            raise BundleError(f"the bundle's answer to {question}: another record")
        return found

    def attestations(
        self, model_id: bytes, block: Block, attesters: Collection[str] | None
    ) -> Sequence[Attestation]:
        """Return the attestations of a model at a block; None is those of any attester."""
        question = attestation_question(model_id, block, attesters)
        return self._told.document(question, AttestationFacts).found()

    def channel(self, channel_id: bytes) -> ChannelState:
        """Return a channel as it was."""
        return self._told.document(f"channel 0x{channel_id.hex()}", ChannelFact).state()

    def authorization_used(self, asset: str, payer: str, nonce: bytes) -> bool:
        """Say whether an EIP-3009 authorisation was spent."""
        question = f"authorization {asset} {payer} 0x{nonce.hex()}"
        return bool(self._told.document(question, UsedFact).used)

    def transfers(self, tx_hash: bytes, asset: str) -> Sequence[Transfer]:
        """Return what a transaction moved of a token."""
        return self._told.document(f"transfers 0x{tx_hash.hex()} {asset}", TransferFacts).found()


def _refuse(question: str, fact: RefusedFact) -> NoReturn:
    if fact.refused == BadAnswerError.__name__:
        raise BadAnswerError(fact.message, evidence={"asked": question, "answer": fact.message})
    if fact.refused == TransactionFailedError.__name__:
        raise TransactionFailedError(fact.message)
    if fact.refused == ChainMismatchError.__name__:
        raise ChainMismatchError(fact.message)
    raise BundleError(f"the bundle's answer to {question:.120}: {fact.refused!r:.60} is no refusal")
