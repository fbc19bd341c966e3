"""Another log than the node keeps: well formed, well signed, and false."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from inference.audit import merkle
from inference.audit.checkpoint import Checkpoint, checkpoint_domain, sign
from inference.audit.entry import RECEIPT, Entry, parse_entry
from inference.audit.log import GENESIS
from inference.receipts import SignedReceipt, signing_digest
from tests.liars.actor import Actor
from tests.liars.honest import Honest
from tests.liars.wire import WireAnswer


class FalseHead(Honest):
    """Shows the head that `head` makes of the signed one, and nothing else that is false."""

    def head(self, honest: str, actor: Actor) -> str:
        return honest

    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        if answer.path != "/v1/log/checkpoint":
            return answer
        return replace(answer, body=self.head(answer.body.decode(), actor).encode())


class FalseLog(Honest):
    """Honest until `is_told`; then `tell` makes what everybody is shown of the log."""

    is_told = False

    def tell(self, entries: list[Entry], actor: Actor) -> Sequence[bytes]:
        return [entry.encode() for entry in entries]

    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        path = answer.path.removeprefix("/v1/log")
        if not self.is_told or path == answer.path:
            return answer
        entries = self.tell(entries_of(actor), actor)
        leaves = [merkle.leaf_hash(entry) for entry in entries]
        asked = {name: int(value[0]) for name, value in parse_qs(answer.query).items()}
        nodes = merkle.nodes_of(leaves)
        if path == "":
            return answer.saying({**answer.json, "size": len(entries)})
        if path == "/checkpoint":
            note = signed_head(actor, leaves).note
            return replace(answer, status=200, body=note.encode())
        if path == "/entries":
            page = entries[asked["start"] : asked["end"]]
            texts = [entry.decode() for entry in page]
            return _found(answer, {"start": asked["start"], "entries": texts})
        if path == "/proof/inclusion":
            proof = merkle.inclusion_proof(asked["seq"], asked["size"], nodes)
        else:
            proof = merkle.consistency_proof(asked["old"], asked["new"], nodes)
        return _found(answer, {**asked, "proof": ["0x" + item.hex() for item in proof]})


def entries_of(actor: Actor) -> list[Entry]:
    """Return the entries that the node has written."""
    log = actor.node.log
    found = actor.node.database.read(lambda tx: log.entry_bytes(tx, 0, log.size(tx)))
    return [parse_entry(data) for data in found]


def signed_head(actor: Actor, leaves: Sequence[bytes]) -> Any:
    """Sign the head of any leaves, as whoever holds the key can."""
    target = actor.target
    head = Checkpoint(target.origin, len(leaves), merkle.root(leaves))
    return sign(head, actor.node.signer, checkpoint_domain(target.chain_id, target.anchor))


def signed_anew(actor: Actor, entries: Sequence[Entry]) -> list[bytes]:
    """Number the entries, link and sign their receipts as if they had always stood so."""
    domain, key = actor.identity.domain, actor.node.signer
    written, prev = [], GENESIS
    for seq, entry in enumerate(entries):
        entry = replace(entry, seq=seq)
        if entry.kind == RECEIPT:
            receipt = replace(SignedReceipt.from_json(entry.body).receipt, seq=seq, prev=prev)
            signature = key.sign_digest(signing_digest(receipt, domain))
            entry = SignedReceipt(receipt, signature).entry()
        written.append(entry.encode())
        prev = merkle.leaf_hash(written[-1])
    return written


def _found(answer: WireAnswer, value: object) -> WireAnswer:
    return replace(answer.saying(value), status=200)


__all__ = ["FalseLog", "entries_of", "signed_anew", "signed_head"]
