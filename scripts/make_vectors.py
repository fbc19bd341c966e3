"""Make the vectors of receipts and notes, or check that nothing drifted.

    python scripts/make_vectors.py            # write what follows from each vector's facts
    python scripts/make_vectors.py --check    # compare, write nothing; exit status 1 on drift

A vector's facts are written by hand: a description, what a receipt says (or the entry of a note),
the bodies, the salts. Everything else in its file follows from them and from one key, and is made
here: canonical bytes, digests, signature, log entry, leaf, and a proof in a log of eleven entries.
Python, Solidity and JavaScript read the same files. Of a vector that must be refused, nothing
follows; it is left as it is. Receipts verify for ever, so what is once committed does not change.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Final

from inference.audit.checkpoint import Checkpoint, SignedCheckpoint, checkpoint_domain, sign
from inference.audit.entry import Entry, entry_from
from inference.audit.merkle import inclusion_proof, leaf_hash, nodes_of, root
from inference.proof import AnchoredFacts, Inclusion, Proof, RecordFacts
from inference.receipt_format import Receipt, ReceiptKind
from inference.receipts import Salts, SignedReceipt, receipt_domain, signing_digest
from registry.signing.signer import Signer

FOLDER: Final = Path(__file__).resolve().parent.parent / "tests" / "vectors" / "receipts"
_KEY: Final = Signer(b"\x11" * 32)
_ORIGIN: Final = "node.example/log"
# Not a power of two: paths are of different lengths.
_SIZE: Final = 11
# The head that was anchored is an older one.
_ANCHORED_SIZE: Final = 8
_ANCHORED_BLOCK: Final = 20
_ANCHORED_IN: Final = b"\x0d" * 32


def made(vector: dict[str, Any]) -> dict[str, Any]:
    """Return a vector with everything that follows from its facts."""
    if "refuse" in vector:
        return vector
    if "bundle" in vector:
        return _receipt(vector)
    return vector | _proven(vector, entry_from(vector["note"]))


def _receipt(vector: dict[str, Any]) -> dict[str, Any]:
    bundle = vector["bundle"]
    receipt = ReceiptKind().load(bundle["receipt"], "receipt")
    domain = receipt_domain(vector["chainId"], vector["anchor"])
    digest = signing_digest(receipt, domain)
    salts = Salts.from_json(bundle["salts"])
    signed = SignedReceipt(receipt, _KEY.sign_digest(digest), salts)
    follows = {
        "bundle": signed.bundle(),
        "canonical": receipt.encode().decode(),
        "node": _KEY.address,
        "receiptDigest": _hex(hashlib.sha256(receipt.encode()).digest()),
        "signingDigest": _hex(digest),
        "struct": _struct(receipt),
    }
    return vector | follows | _proven(vector, signed.entry(), salts)


def _struct(receipt: Receipt) -> dict[str, Any]:
    """Return what the signature binds, as contracts take it."""
    return {
        "receiptDigest": _hex(hashlib.sha256(receipt.encode()).digest()),
        "modelId": _hex(receipt.model.model_id),
        "payer": receipt.payment.payer,
        "charged": str(receipt.payment.charged),
        "requestHash": _hex(receipt.request.hash),
        "responseHash": _hex(receipt.response.hash),
        "seq": receipt.seq,
    }


def _proven(vector: dict[str, Any], entry: Entry, salts: Salts | None = None) -> dict[str, Any]:
    """Return the entry's leaf and its proof in a log whose other leaves are made up."""
    leaves = [leaf_hash(f"entry {n}".encode()) for n in range(_SIZE)]
    leaves[entry.seq] = entry.leaf()
    domain = checkpoint_domain(vector["chainId"], vector["anchor"])
    head = sign(Checkpoint(_ORIGIN, _SIZE, root(leaves)), _KEY, domain)
    record = vector.get("record")
    proof = Proof(
        chain=vector["chainId"],
        anchor=vector["anchor"],
        node=_KEY.address,
        entry=entry,
        inclusion=Inclusion(_SIZE, inclusion_proof(entry.seq, _SIZE, nodes_of(leaves))),
        checkpoint=head.note,
        salts=salts,
        request=vector["request"].encode() if salts else None,
        response=vector["response"].encode() if salts else None,
        anchored=AnchoredFacts(
            _ANCHORED_SIZE,
            root(leaves[:_ANCHORED_SIZE]),
            _ANCHORED_BLOCK,
            _ANCHORED_IN,
            inclusion_proof(entry.seq, _ANCHORED_SIZE, nodes_of(leaves)),
        ),
        record=RecordFacts.from_json(record) if record else None,
    )
    return {
        "entry": entry.encode().decode(),
        "leafHash": _hex(entry.leaf()),
        "checkpoint": _checkpoint(head, head.checkpoint.digest(domain)),
        "inclusion": [_hex(item) for item in proof.inclusion.path],
        "proof": proof.encode().decode(),
    }


def _checkpoint(head: SignedCheckpoint, digest: bytes) -> dict[str, Any]:
    return {
        "origin": head.checkpoint.origin,
        "size": head.checkpoint.size,
        "root": _hex(head.checkpoint.root),
        "signingDigest": _hex(digest),
        "signature": _hex(head.signature),
        "note": head.note,
    }


def rendered() -> dict[Path, str]:
    """Return the text of every vector's file, made from the facts in it."""
    return {
        path: json.dumps(made(json.loads(path.read_text())), indent=1, sort_keys=True) + "\n"
        for path in sorted(FOLDER.rglob("*.json"))
    }


def drifted() -> list[str]:
    """Name the files that do not hold what follows from their facts."""
    return [path.name for path, text in rendered().items() if path.read_text() != text]


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def main(arguments: list[str] | None = None) -> int:
    """Write or check the vectors; the exit status is 1 when `--check` found drift."""
    parser = argparse.ArgumentParser(description="Make the vectors of receipts and notes.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on drift")
    changed = drifted()
    if parser.parse_args(arguments).check:
        for name in changed:
            print(f"{name} does not follow from its facts", file=sys.stderr)
        return 1 if changed else 0
    for path, text in rendered().items():
        path.write_text(text)
    print(f"{len(rendered())} vectors, {len(changed)} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
