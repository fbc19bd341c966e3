"""Saves proofs while a node lives: what shows that an entry is in its log, fetched and checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from inference.audit.chain_view import OnchainView
from inference.audit.checkpoint import checkpoint_domain
from inference.audit.checkpoint import verify as verify_note
from inference.audit.document import FormatError
from inference.audit.entry import RECEIPT, Entry, parse_entry
from inference.audit.reader import LogReader
from inference.errors import UnavailableError
from inference.held import Held
from inference.proof import AnchoredFacts, Inclusion, Proof, RecordFacts, signed_in
from inference.statements import SERVED
from registry.errors import ChainMismatchError

_MAX_ATTESTERS: Final = 1000


@dataclass(frozen=True)
class Prover:
    """Asks one node's log and the chain it is anchored on. `node` is the key the log must have."""

    log: LogReader
    chain: OnchainView
    node: str

    def entry(self, seq: int) -> Entry:
        """Return the entry at `seq`. Raises `UnavailableError` where the node shows none."""
        found = list(self.log.entries(seq, seq + 1))
        try:
            entry = parse_entry(found[0])
        except FormatError as error:
            raise UnavailableError(f"the node shows no entry {seq}: {error.message}") from error
        if entry.seq != seq:
            raise UnavailableError(f"the node shows entry {entry.seq} for {seq}")
        return entry

    def prove(self, entry: Entry) -> Proof:
        """Return the proof of an entry, without salts and bodies; nothing of it is verified yet.

        Raises `UnavailableError` where the node's log does not reach as far, `CheckpointError`
        where its head is not signed by the node, `ChainMismatchError` for a log of another chain.
        """
        identity = self.log.identity()
        place = (self.chain.chain.chain_id, self.chain.anchors.address)
        if (identity.chain, identity.anchor) != place:
            raise ChainMismatchError(
                f"the node's log is anchored by {identity.anchor} on chain {identity.chain}",
                hint="use the settings of its chain",
            )
        note = self.log.note()
        head = verify_note(note, self.node, checkpoint_domain(*place)).checkpoint
        if entry.seq >= head.size:
            text = f"the node's log has {head.size} entries, none at {entry.seq}"
            raise UnavailableError(text, hint="is it the node that signed the receipt?")
        return Proof(
            chain=place[0],
            anchor=place[1],
            node=self.node,
            entry=entry,
            inclusion=Inclusion(head.size, self.log.inclusion_proof(entry.seq, head.size)),
            checkpoint=note,
            anchored=self._anchored(entry, head.origin, head.size),
            record=self._record(entry),
        )

    def _anchored(self, entry: Entry, origin: str, size: int) -> AnchoredFacts | None:
        """Return the oldest anchored head that holds the entry, None if there is none yet."""
        for event in self.chain.anchored(self.node, origin):
            if entry.seq < event.size <= size:
                path = self.log.inclusion_proof(entry.seq, event.size)
                return AnchoredFacts(event.size, event.root, event.block, event.tx_hash, path)
        return None

    def _record(self, entry: Entry) -> RecordFacts | None:
        """Return the record of the model that was sold, None where nothing was."""
        if entry.kind != RECEIPT:
            return None
        receipt = signed_in(entry).receipt
        if receipt.status not in SERVED:
            return None
        block = self.chain.block_at(receipt.model.block.number)
        record = self.chain.record(receipt.model.model_id, block)
        if record is None:
            return None
        found = self.chain.attestations(record.id, block, None)
        attesters = {one.attester for one in found if one.stands(block.timestamp)}
        kept = tuple(sorted(attesters)[:_MAX_ATTESTERS])
        return RecordFacts(record.publisher, record.registered_at, kept)


def complete(proof: Proof, held: Held) -> Proof:
    """Return the proof with what its payer alone has: salts and bodies."""
    salts = held.signed.salts if held.signed else None
    if salts is None:
        return proof
    return replace(proof, salts=salts, request=held.request, response=held.response)
