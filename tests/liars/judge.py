"""A third party: believes nobody, and convicts by the evidence alone.

It knows the node's address, the chain and its contracts, and gets the evidence as JSON. What no
signature binds (an answer that anybody could have made up, the payer's word) it can only read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from inference.audit import merkle
from inference.audit.accusation import Accused, head_of
from inference.audit.checkpoint import SignedCheckpoint, checkpoint_domain, verify
from inference.audit.entry import Entry, parse_entry
from inference.audit.evidence import Evidence
from inference.audit.merkle import leaf_hash, verify_consistency, verify_inclusion
from inference.audit.model_standing import check_standing
from inference.audit.replay import replay, shown_in
from inference.audit_command import chain_view
from inference.errors import AuditError, NodeError
from inference.offer_receipt import verify_payment_receipt
from inference.receipts import SignedReceipt, check_charge, check_signature
from inference.resident_statement import SignedStatement
from inference.resident_statement import check_signature as check_statement
from tests.liars.actor import Actor
from tests.liars.lies.revoked_model import TERMS

Shown = Mapping[str, Any]


def _signed(actor: Actor, shown: object) -> SignedReceipt:
    """Return a receipt that the node surely signed."""
    signed = SignedReceipt.from_json(shown)
    check_signature(signed, node=actor.address, domain=actor.identity.domain)
    return signed


def _head(actor: Actor, note: str) -> SignedCheckpoint:
    target = actor.target
    domain = checkpoint_domain(target.chain_id, target.anchor)
    return verify(note, actor.address, domain, origin=target.origin)


def _accused(actor: Actor) -> Accused:
    target = actor.target
    return Accused(target.chain_id, target.anchor, target.node, target.origin)


def receipt_alone(actor: Actor, shown: Shown) -> None:
    """The receipt contradicts itself."""
    with pytest.raises(AuditError):
        check_charge(_signed(actor, shown["receipt"]))


def receipt_and_word(actor: Actor, shown: Shown) -> None:
    """The node did sign it; that it is false, the payer says."""
    _signed(actor, shown["receipt"])
    if "before" in shown:
        _signed(actor, shown["before"])


def receipt_and_answer(actor: Actor, shown: Shown) -> None:
    """The node did sign the receipt; what else it said no signature binds."""
    receipt = _signed(actor, shown["lastReceipt"]).receipt
    assert shown["ledger"]["cumulative"] != str(receipt.payment.cumulative)


def two_receipts(actor: Actor, shown: Shown) -> None:
    """Two receipts have one number, or are about one call."""
    first = _signed(actor, shown["receipt"])
    other = _signed(actor, shown["before"] if "before" in shown else shown["entry"])
    if first.receipt.seq == other.receipt.seq:
        _accused(actor).twins(first, other).check()
        return
    assert first.receipt.request.hash == other.receipt.request.hash
    assert first.receipt.id != other.receipt.id


def two_statements(actor: Actor, shown: Shown) -> None:
    """The receipt names another x402 receipt than the one that the node signed beside it."""
    stated, signer = verify_payment_receipt(shown["x402Receipt"])
    assert signer == actor.address
    receipt = _signed(actor, shown["receipt"]).receipt
    assert receipt.payment.x402_receipt != stated.digest()
    assert (receipt.payment.payer, receipt.served_at) == (stated.payer, stated.issued_at)


def receipt_and_model(actor: Actor, shown: Shown) -> None:
    """Whoever has the model comes to the same result."""
    signed, disclosed = shown_in(shown)
    with pytest.raises(AuditError):
        replay(_signed(actor, signed.public()), disclosed, actor.stage.replayer)


def receipt_and_chain(actor: Actor, shown: Shown) -> None:
    """The chain says otherwise than the receipt."""
    chain = chain_view(actor.stage.workspace)
    signed = _signed(actor, shown.get("receipt") or shown["lastReceipt"])
    payment = signed.receipt.payment
    if payment.scheme == "exact":
        assert not chain.authorization_used(payment.asset, payment.payer, payment.nonce)
    elif "totalClaimed" in shown:
        assert chain.channel(payment.channel).total_claimed > payment.cumulative
    else:
        with pytest.raises(AuditError):
            check_standing([signed], actor.target, chain, TERMS)


def two_heads(actor: Actor, shown: Shown) -> None:
    """The contract that holds the bond pays for it."""
    evidence = _accused(actor).heads(
        head_of(_head(actor, shown["known"])), head_of(_head(actor, shown["checkpoint"]))
    )
    assert isinstance(evidence, Evidence)
    evidence.check()


def heads_and_chain(actor: Actor, shown: Shown) -> None:
    """One head stands on chain; the other, signed too, does not extend it as far as is shown."""
    anchored, head = shown["anchored"], _head(actor, shown["checkpoint"]).checkpoint
    on_chain = chain_view(actor.stage.workspace).anchored(actor.address, actor.target.origin)
    [event] = [one for one in on_chain if one.to_json() == anchored]
    if event.size > head.size:
        return
    proof = [bytes.fromhex(item[2:]) for item in shown.get("proof", [])]
    with pytest.raises(NodeError):
        verify_consistency(event.size, head.size, event.root, head.root, proof)


def receipt_and_log(actor: Actor, shown: Shown) -> None:
    """The node signed the receipt, and a head; that its log holds it the node cannot show."""
    signed, head = _signed(actor, shown["receipt"]), None
    if "checkpoint" in shown:
        head = _head(actor, shown["checkpoint"]).checkpoint
        proof = [bytes.fromhex(item[2:]) for item in shown.get("proof", [])]
        with pytest.raises(NodeError):
            seq, leaf = signed.receipt.seq, signed.entry().leaf()
            verify_inclusion(leaf, seq, head.size, proof, head.root)
    else:
        assert shown["seq"] != signed.receipt.seq or "leafBefore" in shown


def log_alone(actor: Actor, shown: Shown) -> None:
    """The entries as they are shown are no log, or are not that of the signed head."""
    if "leaves" in shown:
        head = _head(actor, shown["checkpoint"]).checkpoint
        leaves = [bytes.fromhex(item[2:]) for item in shown["leaves"]]
        assert len(leaves) == head.size
        assert merkle.root(leaves) != head.root
    else:
        entry: Entry = parse_entry(shown["entry"].encode())
        assert entry.seq != shown["seq"]
        assert leaf_hash(entry.encode())


def log_and_chain(actor: Actor, shown: Shown) -> None:
    """The log tells of a transaction that the chain does not have."""
    told = shown.get("anchor") or shown["settlement"]
    assert actor.stage.workspace.chain.receipt(bytes.fromhex(told["transaction"][2:])) is None


def statement(actor: Actor, shown: Shown) -> None:
    """The node signed it; it is about another question than was asked."""
    check_statement(SignedStatement.from_json(shown["statement"]), actor.address)


def answer(actor: Actor, shown: Shown) -> None:
    """No signature binds it: whoever doubts asks the node again."""
    assert shown


KINDS: Final[Mapping[str, Callable[[Actor, Shown], None]]] = {
    "a signed receipt": receipt_alone,
    "a signed receipt, and the payer's word": receipt_and_word,
    "two signed receipts": two_receipts,
    "two signed receipts, and the payer's word": receipt_and_word,
    "two signed statements": two_statements,
    "a signed receipt, and the model": receipt_and_model,
    "a signed receipt, and the chain": receipt_and_chain,
    "a signed receipt, and the signed log": receipt_and_log,
    "a signed receipt, and the answer": receipt_and_answer,
    "two signed heads": two_heads,
    "two signed heads, one anchored": heads_and_chain,
    "the signed log": log_alone,
    "the signed log, and the chain": log_and_chain,
    "a signed statement": statement,
    "the answer": answer,
    "the answer, and the chain": answer,
    "the block's name": answer,
    "two endpoints' answers": answer,
}
