"""Check 6: whether the model a receipt names was allowed to be sold when it was."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from inference.audit.accounts import Recall, about
from inference.audit.chain_view import AuditTarget, ChainView
from inference.audit.examination import Call, ModelKey, call_of
from inference.receipt_format import OK, PARTIAL
from inference.receipts import SignedReceipt
from registry.chain.block import Block
from registry.errors import ChainMismatchError
from registry.record import Kind, Record, Status

CHECK: Final = 6
# Questions to the chain under way at once: an endpoint answers some side by side.
_THREADS: Final = 4
SOLD: Final = (OK, PARTIAL)


@dataclass(frozen=True)
class Terms:
    """What an auditor demands of a model, and of the times that receipts state. In seconds.

    `attesters` None: anybody's attestation counts, of the newest 1,000; `tags` None: any tag. A
    node may go on selling for `revocation_bound_s` after a revocation: the time its watcher and a
    call in flight may take. `max_ancestors` bounds what a model descends from; `revoked_parents`
    allows that some of it was revoked. A receipt may name a block that had a successor for at most
    `block_age_s`; clocks may differ by `skew_s`, calls end in another order than they are logged
    in by `order_s`, and a checkpoint reach the chain `anchor_delay_s` after it was signed.
    """

    min_attestations: int = 1
    attesters: frozenset[str] | None = None
    tags: frozenset[str] | None = None
    revocation_bound_s: int = 60
    max_ancestors: int = 256
    revoked_parents: bool = False
    block_age_s: int = 3600
    skew_s: int = 120
    order_s: int = 300
    anchor_delay_s: int = 86_400


@dataclass
class _Sold:
    """When a model was sold first and last, in unix seconds, and by which receipts."""

    first: int
    first_seq: int
    last: int
    last_seq: int

    def add(self, served_at: int, seq: int) -> None:
        if served_at < self.first:
            self.first, self.first_seq = served_at, seq
        if served_at > self.last:
            self.last, self.last_seq = served_at, seq


@dataclass
class Standing:
    """The models that receipts say were sold: at which blocks, and until when.

    What was refused or failed was not sold: such a receipt may name a revoked model, or none.
    """

    at_blocks: dict[ModelKey, _Sold] = field(default_factory=dict)
    models: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def add(self, seq: int, call: Call) -> None:
        """Take the receipt at `seq`."""
        if call.status not in SOLD:
            return
        sold = self.at_blocks.get(call.model)
        if sold is None:
            self.at_blocks[call.model] = _Sold(call.served_at, seq, call.served_at, seq)
        else:
            sold.add(call.served_at, seq)
        model_id = call.model[2]
        if call.served_at > self.models.get(model_id, (-1, 0))[0]:
            self.models[model_id] = (call.served_at, seq)

    def check(self, target: AuditTarget, chain: ChainView, terms: Terms, recall: Recall) -> int:
        """Check every model; return how many there were.

        Raises `AuditError` (6) with the receipt and what the chain says.
        """
        asking = _Asking(target, chain, terms, recall)
        with ThreadPoolExecutor(_THREADS) as pool:
            for found in pool.map(asking.fault_at_its_block, self.at_blocks.items()):
                if found is not None:
                    raise about(recall, CHECK, found[1], found[0])
        for model_id, (served_at, seq) in self.models.items():
            record = chain.record(model_id, None)
            late = served_at - record.revoked_at if record else 0
            if record and record.revoked_at and late > terms.revocation_bound_s:
                text = f"its model was sold {late} s after it was revoked"
                raise about(recall, CHECK, text, seq)
        return len(self.models)


def check_standing(
    receipts: Iterable[SignedReceipt], target: AuditTarget, chain: ChainView, terms: Terms
) -> int:
    """Check the models of receipts that are at hand; as `Standing.check`."""
    held = list(receipts)
    standing = Standing()
    for at, signed in enumerate(held):
        standing.add(at, call_of(signed.receipt))
    return standing.check(target, chain, terms, held.__getitem__)


class _FaultError(Exception):
    """What the chain says against a receipt."""


@dataclass(frozen=True)
class _Asking:
    target: AuditTarget
    chain: ChainView
    terms: Terms
    recall: Recall

    def fault_at_its_block(self, sold: tuple[ModelKey, _Sold]) -> tuple[int, str] | None:
        """Return which receipt the chain speaks against and how, or None."""
        key, when = sold
        try:
            block, record = self._record(key)
            self._check_times(block, when)
            self._check_attested("it", record.id, block)
            self._check_ancestors(record, block)
        except _FaultError as fault:
            return (when.first_seq if fault.args[1:] else when.last_seq, str(fault.args[0]))
        return None

    def _record(self, key: ModelKey) -> tuple[Block, Record]:
        chain_id, registry, model_id, manifest, number, block_hash = key
        if (chain_id, registry) != (self.target.chain_id, self.target.registry):
            raise _FaultError(f"its model is of registry {registry} on chain {chain_id}")
        try:
            block = self.chain.block_at(number)
        except ChainMismatchError as error:
            raise _FaultError(f"the chain has no block {number}") from error
        if block.hash != block_hash:
            text = f"block {number} has hash 0x{block.hash.hex()}, not what the receipt says"
            raise _FaultError(text)
        record = self.chain.record(model_id, block)
        if record is None or record.kind is not Kind.MODEL:
            raise _FaultError(f"no model had this id at block {number}")
        if record.status is not Status.ACTIVE:
            raise _FaultError(f"the model was revoked already at block {number}")
        if record.manifest_digest != manifest:
            raise _FaultError(f"the chain records manifest 0x{record.manifest_digest.hex()}")
        return block, record

    def _check_times(self, block: Block, when: _Sold) -> None:
        early = block.timestamp - when.first
        if early > self.terms.skew_s:
            # The second argument says which receipt it is about: the first one sold.
            text = f"it says it was served {early} s before block {block.number}, which it names"
            raise _FaultError(text, True)
        if when.last - block.timestamp <= self.terms.block_age_s:
            return
        try:
            successor = self.chain.block_at(block.number + 1)
        except ChainMismatchError:
            return  # the newest block there is
        late = when.last - successor.timestamp
        if late > self.terms.block_age_s:
            text = f"block {block.number}, which it names, had had a successor for {late} s"
            raise _FaultError(text)

    def _check_attested(self, what: str, model_id: bytes, block: Block) -> None:
        terms = self.terms
        found = {
            attestation.attester
            for attestation in self.chain.attestations(model_id, block, terms.attesters)
            if attestation.stands(block.timestamp)
            and (terms.attesters is None or attestation.attester in terms.attesters)
            and (terms.tags is None or attestation.tag in terms.tags)
        }
        if len(found) < terms.min_attestations:
            text = f"{len(found)} attesters vouched for {what} at block {block.number}"
            raise _FaultError(f"{text}, {terms.min_attestations} are needed")

    def _check_ancestors(self, record: Record, block: Block) -> None:
        """Walk all that the model descends from: an adapter's base is among it."""
        waiting, seen = list(record.parents), {record.id}
        while waiting:
            ancestor_id = waiting.pop(0)
            if ancestor_id in seen:
                continue
            seen.add(ancestor_id)
            name = f"0x{ancestor_id.hex()}"
            if len(seen) > self.terms.max_ancestors + 1:
                raise _FaultError(f"it has more than {self.terms.max_ancestors} ancestors")
            ancestor = self.chain.record(ancestor_id, block)
            if ancestor is None:
                raise _FaultError(f"it descends from {name}, which block {block.number} has not")
            if ancestor.status is not Status.ACTIVE and not self.terms.revoked_parents:
                word = ancestor.kind.word
                text = f"it descends from {word} {name}, revoked at block {block.number}"
                raise _FaultError(text)
            waiting.extend(ancestor.parents)
