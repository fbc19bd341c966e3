"""Saves what an audit is told, while it is told: a log reader and a chain view that take notes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from inference.audit.anchor import AnchorEvent
from inference.audit.bundle import BundleHead, BundleTail
from inference.audit.chain_view import ChainView, ChannelState
from inference.audit.document import BytesKind, remark
from inference.audit.model_standing import Terms
from inference.audit.reader import BadAnswerError, LedgerState, LogIdentity, LogReader
from inference.audit.target import AuditTarget
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
from registry.signing.canonical import JsonObject, JsonValue

_Told = TypeVar("_Told")
_HASH: Final = BytesKind(32)


class BundleWriter:
    """Writes a bundle to `path`: entries as they are read, all other answers when it is closed."""

    def __init__(self, path: Path, target: AuditTarget, terms: Terms) -> None:
        self._answers: JsonObject = {}
        self._entries = 0
        self._digest = sha256()
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._file = self._part.open("wb")
        head = BundleHead(
            target.node,
            target.origin,
            target.chain_id,
            target.anchor,
            target.registry,
            int(time.time()),
            terms.min_attestations,
            None if terms.attesters is None else tuple(sorted(terms.attesters)),
        )
        self._line(head.encode())

    def close(self) -> None:
        """Write the answers; only then is the file there under its name."""
        tail = BundleTail(self._entries, self._answers, self._digest.digest())
        self._line(tail.encode())
        self._file.close()
        self._part.replace(self._path)

    def abandon(self) -> None:
        """Leave nothing: the audit did not come to its end."""
        self._file.close()
        self._part.unlink(missing_ok=True)

    def entry(self, seq: int, data: bytes) -> None:
        """Take an entry, if it is the next one: some are asked for again."""
        if seq == self._entries and b"\n" not in data:
            self._entries += 1
            self._line(data)

    def told(
        self, question: str, ask: Callable[[], _Told], dump: Callable[[_Told], JsonValue]
    ) -> _Told:
        """Ask, and note the answer, or that there was none."""
        try:
            answer = ask()
        except (BadAnswerError, ChainMismatchError, TransactionFailedError) as error:
            refused = RefusedFact(type(error).__name__, remark(error.message))
            self._answers[question] = refused.to_json()
            raise
        self._answers[question] = dump(answer)
        return answer

    def _line(self, data: bytes) -> None:
        self._file.write(data + b"\n")
        self._digest.update(data + b"\n")


class NotedLog(LogReader):
    """A log reader whose answers are saved."""

    def __init__(self, log: LogReader, writer: BundleWriter) -> None:
        self._log = log
        self._writer = writer

    def stated(self) -> LogIdentity | None:
        """Return whose log it is, by the node's word."""
        return self._writer.told("identity", self._log.identity, LogIdentity.to_json)

    def note(self) -> str:
        """Return the newest signed checkpoint."""
        return self._writer.told("note", self._log.note, str)

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of entries [start, end)."""
        for seq, data in enumerate(self._log.entries(start, end), start=start):
            self._writer.entry(seq, data)
            yield data

    def inclusion_proof(self, seq: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that entry `seq` is in the log of `size`."""
        asked = f"inclusion {seq} {size}"
        return self._writer.told(asked, lambda: self._log.inclusion_proof(seq, size), _hashes)

    def consistency_proof(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the log of `new` begins with the log of `old`."""
        asked = f"consistency {old} {new}"
        return self._writer.told(asked, lambda: self._log.consistency_proof(old, new), _hashes)

    def ledger(self, channel_id: bytes) -> LedgerState:
        """Return what the node's ledger says of a channel."""
        asked = f"ledger 0x{channel_id.hex()}"
        return self._writer.told(asked, lambda: self._log.ledger(channel_id), LedgerState.to_json)

    def price_offer(self, digest: bytes) -> PriceOffer:
        """Return the price offer with a digest."""
        asked = f"offer 0x{digest.hex()}"
        return self._writer.told(asked, lambda: self._log.price_offer(digest), PriceOffer.to_json)


class NotedChain(ChainView):
    """A chain view whose answers are saved."""

    def __init__(self, chain: ChainView, writer: BundleWriter) -> None:
        self._chain = chain
        self._writer = writer

    def anchored(self, node: str, origin: str) -> Sequence[AnchorEvent]:
        """Return every anchored head of a log, oldest first."""
        return self._writer.told(
            "anchored",
            lambda: self._chain.anchored(node, origin),
            lambda found: AnchorFacts.of(found).to_json(),
        )

    def origins(self, node: str) -> Sequence[str]:
        """Return the names under which a node anchored logs."""
        return self._writer.told("origins", lambda: self._chain.origins(node), list)

    def block_at(self, number: int) -> Block:
        """Return block `number`."""
        return self._writer.told(
            f"block {number}",
            lambda: self._chain.block_at(number),
            lambda block: BlockFact.of(block).to_json(),
        )

    def record(self, model_id: bytes, block: Block | None) -> Record | None:
        """Return a model's record at a block, or at the head; None where there is none."""
        return self._writer.told(
            record_question(model_id, block),
            lambda: self._chain.record(model_id, block),
            lambda found: (RecordFact.of(found) if found else NothingFact()).to_json(),
        )

    def attestations(
        self, model_id: bytes, block: Block, attesters: Collection[str] | None
    ) -> Sequence[Attestation]:
        """Return the attestations of a model at a block; None is those of any attester."""
        return self._writer.told(
            attestation_question(model_id, block, attesters),
            lambda: self._chain.attestations(model_id, block, attesters),
            lambda found: AttestationFacts.of(found).to_json(),
        )

    def channel(self, channel_id: bytes) -> ChannelState:
        """Return a channel as it is now."""
        return self._writer.told(
            f"channel 0x{channel_id.hex()}",
            lambda: self._chain.channel(channel_id),
            lambda found: ChannelFact.of(found).to_json(),
        )

    def authorization_used(self, asset: str, payer: str, nonce: bytes) -> bool:
        """Say whether an EIP-3009 authorisation was spent."""
        return self._writer.told(
            f"authorization {asset} {payer} 0x{nonce.hex()}",
            lambda: self._chain.authorization_used(asset, payer, nonce),
            lambda used: UsedFact(int(used)).to_json(),
        )

    def transfers(self, tx_hash: bytes, asset: str) -> Sequence[Transfer]:
        """Return what a transaction moved of a token."""
        return self._writer.told(
            f"transfers 0x{tx_hash.hex()} {asset}",
            lambda: self._chain.transfers(tx_hash, asset),
            lambda found: TransferFacts.of(found).to_json(),
        )


def record_question(model_id: bytes, block: Block | None) -> str:
    """Return how a bundle names what is asked of a record."""
    return f"record 0x{model_id.hex()} {block.number if block else 'head'}"


def attestation_question(model_id: bytes, block: Block, attesters: Collection[str] | None) -> str:
    """Return how a bundle names what is asked of a model's attestations."""
    by = "anybody"
    if attesters is not None:
        by = sha256(",".join(sorted(attesters)).encode()).hexdigest()[:16]
    return f"attestations 0x{model_id.hex()} {block.number} {by}"


def _hashes(found: Sequence[bytes]) -> JsonValue:
    return [_HASH.dump(item, "proof") for item in found]
