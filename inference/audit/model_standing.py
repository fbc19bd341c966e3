"""Check 6: whether the model a receipt names was allowed to be sold when it was."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from inference.audit.chain_view import AuditTarget, ChainView
from inference.errors import AuditError
from inference.receipt_format import OK, PARTIAL
from inference.receipts import SignedReceipt
from registry.chain.block import Block
from registry.errors import ChainMismatchError
from registry.record import Kind, Status

CHECK: Final = 6


@dataclass(frozen=True)
class Terms:
    """What an auditor demands of a model.

    `attesters` None: anybody's attestation counts, of the newest 1,000; `tags` None: any tag. A
    node may go on selling for `revocation_bound_s` seconds after a revocation: the time its watcher
    and a call in flight may take.
    """

    min_attestations: int = 1
    attesters: frozenset[str] | None = None
    tags: frozenset[str] | None = None
    revocation_bound_s: int = 60


def check_standing(
    receipts: Iterable[SignedReceipt], target: AuditTarget, chain: ChainView, terms: Terms
) -> int:
    """Check every model that receipts say was sold; return how many there were.

    Raises `AuditError` (6) with the receipt and what the chain says. What was refused or failed
    was not sold: such a receipt may name a revoked model, or none.
    """
    checked: set[tuple[object, ...]] = set()
    revoked_at: dict[bytes, int] = {}
    for signed in receipts:
        if signed.receipt.status not in (OK, PARTIAL):
            continue
        model = signed.receipt.model
        key = (model.chain, model.registry, model.model_id, model.manifest_digest, model.block)
        if key not in checked:
            _check_at_its_block(signed, target, chain, terms)
            checked.add(key)
        if model.model_id not in revoked_at:
            record = chain.record(model.model_id, None)
            revoked_at[model.model_id] = record.revoked_at if record else 0
        _check_not_revoked(signed, revoked_at[model.model_id], terms)
    return len(revoked_at)


def _check_at_its_block(
    signed: SignedReceipt, target: AuditTarget, chain: ChainView, terms: Terms
) -> None:
    model = signed.receipt.model
    if (model.chain, model.registry) != (target.chain_id, target.registry):
        raise _wrong(f"its model is of registry {model.registry} on chain {model.chain}", signed)
    try:
        block = chain.block_at(model.block.number)
    except ChainMismatchError as error:
        raise _wrong(f"the chain has no block {model.block.number}", signed) from error
    if block.hash != model.block.hash:
        text = f"block {block.number} has hash 0x{block.hash.hex()}, not what the receipt says"
        raise _wrong(text, signed)
    record = chain.record(model.model_id, block)
    if record is None or record.kind is not Kind.MODEL:
        raise _wrong(f"no model had this id at block {block.number}", signed)
    if record.status is not Status.ACTIVE:
        raise _wrong(f"the model was revoked already at block {block.number}", signed)
    if record.manifest_digest != model.manifest_digest:
        raise _wrong(f"the chain records manifest 0x{record.manifest_digest.hex()}", signed)
    _check_attested(signed, block, chain, terms)


def _check_attested(signed: SignedReceipt, block: Block, chain: ChainView, terms: Terms) -> None:
    model_id = signed.receipt.model.model_id
    found = {
        attestation.attester
        for attestation in chain.attestations(model_id, block, terms.attesters)
        if attestation.stands(block.timestamp)
        and (terms.attesters is None or attestation.attester in terms.attesters)
        and (terms.tags is None or attestation.tag in terms.tags)
    }
    if len(found) < terms.min_attestations:
        text = f"{len(found)} attesters vouched for it at block {block.number}"
        raise _wrong(f"{text}, {terms.min_attestations} are needed", signed)


def _check_not_revoked(signed: SignedReceipt, revoked_at: int, terms: Terms) -> None:
    late = signed.receipt.served_at - revoked_at
    if revoked_at and late > terms.revocation_bound_s:
        raise _wrong(f"its model was sold {late} s after it was revoked", signed)


def _wrong(message: str, signed: SignedReceipt) -> AuditError:
    text = f"receipt {signed.receipt.id}: {message}"
    return AuditError(CHECK, text, evidence={"receipt": signed.public()})
