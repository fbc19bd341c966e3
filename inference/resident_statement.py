"""Resident statements: what a node found when it hashed weights where they lie, for one question.

1. whoever asks draws a nonce of 32 bytes
2. nonce, ModelId and resident digest select tensors of the manifest (`select`)
3. the node hashes these in its memory at that moment
4. it signs digests and nonce together (`issue`)
5. whoever asked, or anybody with the manifest, checks all of it again (`check_*`)

The digests stand in the manifest, so a node can state them without hashing anything: what binds
it is its signature. A statement beside another finding of the same tensors convicts its key.

What format 1 fixes for ever: the selection (`inference.selection`) and the signed struct.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from inference.audit.document import (
    Address,
    Count,
    CountKind,
    Digest,
    Document,
    ListKind,
    Remark,
    Signature,
    TextKind,
)
from inference.audit.field_kinds import ManyKind
from inference.errors import NodeError
from inference.receipt_format import ModelFacts, RuntimeFacts
from inference.selection import MAX_TENSORS, nbytes, select
from registry.errors import SignatureError
from registry.manifest_parts import TensorEntry
from registry.signing.canonical import JsonObject
from registry.signing.signer import Signer, recover
from registry.signing.typed_data import Domain, Struct

# 64 tensors take about 20 KiB; the limit only bounds the work on foreign bytes.
MAX_BYTES: Final = 64 * 1024
# As safetensors allows; no architecture here has more than four.
_MAX_DIMENSIONS: Final = 8

STATEMENT_STRUCT: Final = Struct(
    "ResidentStatement",
    {
        "statementDigest": "bytes32",
        "modelId": "bytes32",
        "residentDigest": "bytes32",
        "nonce": "bytes32",
        "madeAt": "uint64",
    },
)


class StatementError(NodeError):
    """A resident statement is false. `check` is the number of the check, `evidence` proves it."""

    exit_code = 6

    def __init__(self, check: int, message: str, *, evidence: Mapping[str, object]) -> None:
        super().__init__(message)
        self.check = check
        self.evidence = dict(evidence)


@dataclass(frozen=True)
class TensorFacts(Document):
    """One tensor as it lay in memory; `digest` by the rule of `registry.hashing.weights`."""

    name: Remark
    dtype: Annotated[str, TextKind(r"[A-Z0-9_]+", limit=16)]
    shape: Annotated[tuple[int, ...], ManyKind(CountKind(), _MAX_DIMENSIONS)]
    digest: Digest

    @classmethod
    def of(cls, entry: TensorEntry, digest: bytes) -> TensorFacts:
        """Return the facts of a manifest's tensor that was found to hash to `digest`."""
        return cls(entry.name, entry.dtype, entry.shape, digest)


@dataclass(frozen=True)
class ResidentStatement(Document):
    """What lay in the memory of `node`, hashed at `made_at` (unix seconds) for `nonce`.

    `model.block` is the newest at which the model was found to stand, `runtime` what computes with
    these tensors, `asked` how many were asked for. Tensors stand in the order they were drawn.
    """

    FORMAT: ClassVar[str] = "weightproof/resident-statement@1"

    node: Address
    model: ModelFacts
    runtime: RuntimeFacts
    nonce: Digest
    asked: Count
    tensors: Annotated[tuple[TensorFacts, ...], ListKind(TensorFacts, MAX_TENSORS)]
    made_at: Count


@dataclass(frozen=True)
class SignedStatement(Document):
    """A statement and the node's signature over it."""

    statement: ResidentStatement
    signature: Signature

    def evidence(self) -> dict[str, object]:
        """Return what proves a finding about this statement."""
        return {"statement": self.to_json()}


@dataclass(frozen=True)
class Question:
    """What was asked of whom: `node` is the key that must answer, `asked` counts tensors."""

    node: str
    chain_id: int
    registry: str
    model_id: bytes
    nonce: bytes
    asked: int


def resident_domain(chain_id: int, registry: str) -> Domain:
    """Return the EIP-712 domain: these statements are about models of one registry.

    Receipts have another domain and another type, so neither can be taken for the other.
    """
    return Domain("Weightproof Resident", "1", chain_id, registry)


def issue(signer: Signer, statement: ResidentStatement) -> SignedStatement:
    """Sign a statement; its `node` must be the signer's address."""
    return SignedStatement(statement, signer.sign_digest(signing_digest(statement)))


def signing_digest(statement: ResidentStatement) -> bytes:
    """Return the 32 bytes the node signs."""
    model = statement.model
    values = {
        "statementDigest": hashlib.sha256(statement.encode()).digest(),
        "modelId": model.model_id,
        "residentDigest": model.resident_digest,
        "nonce": statement.nonce,
        "madeAt": statement.made_at,
    }
    return STATEMENT_STRUCT.digest(resident_domain(model.chain, model.registry).separator(), values)


def check_signature(signed: SignedStatement, node: str) -> str:
    """Check 1: `node` signed exactly this. Raises `StatementError`; returns what was found."""
    statement = signed.statement
    if statement.node != node:
        raise _false(1, f"the statement is by node {statement.node}, not {node}", signed)
    try:
        signer = recover(signing_digest(statement), signed.signature)
    except SignatureError as error:
        raise _false(1, f"the statement's signature: {error}", signed) from error
    if signer != node:
        raise _false(1, f"the statement was changed, or signed by {signer}", signed)
    return f"signed by {node}"


def check_question(signed: SignedStatement, question: Question) -> str:
    """Check 2: it answers this question and no other. Raises `StatementError`."""
    statement = signed.statement
    model = statement.model
    found = (model.chain, model.registry, model.model_id, statement.nonce, statement.asked)
    wanted = (
        question.chain_id,
        question.registry,
        question.model_id,
        question.nonce,
        question.asked,
    )
    names = ("chain", "registry", "ModelId", "nonce", "number of tensors asked for")
    for name, there, here in zip(names, found, wanted, strict=True):
        if there != here:
            text = f"the statement answers another question: its {name} is {_shown(there)}"
            raise _false(2, f"{text}, asked was {_shown(here)}", signed)
    return f"about 0x{model.model_id.hex()}, for nonce 0x{statement.nonce.hex()}"


def check_selection(
    signed: SignedStatement, tensors: Sequence[TensorEntry], resident_digest: bytes
) -> str:
    """Check 3: its tensors are those the nonce selects of the model's. Raises `StatementError`.

    `resident_digest` is what `tensors` give, so that the node cannot choose it.
    """
    statement = signed.statement
    selected = select(
        tensors,
        nonce=statement.nonce,
        model_id=statement.model.model_id,
        resident_digest=resident_digest,
        count=statement.asked,
    )
    wanted = [tensor.name for tensor in selected]
    if [tensor.name for tensor in statement.tensors] != wanted:
        raise _false(3, f"the nonce selects {', '.join(wanted):.400}", signed)
    size = sum(nbytes(tensor) for tensor in selected)
    return f"{len(selected)} of {len(tensors)} tensors, {size} bytes"


def check_tensors(
    signed: SignedStatement,
    manifest_digest: bytes,
    tensors: Sequence[TensorEntry],
    resident_digest: bytes,
) -> str:
    """Check 4: manifest, resident digest and every tensor are the record's.

    `tensors` are what the manifest lists, and for an adapter what its base's lists too;
    `resident_digest` is what they give. Raises `StatementError`.
    """
    model = signed.statement.model
    if model.manifest_digest != manifest_digest:
        text = f"manifest 0x{model.manifest_digest.hex()} is not the record's"
        raise _false(4, text, signed)
    if model.resident_digest != resident_digest:
        text = f"the manifest makes the resident digest 0x{resident_digest.hex()}"
        raise _false(4, text, signed)
    promised = {tensor.name: tensor for tensor in tensors}
    for tensor in signed.statement.tensors:
        entry = promised.get(tensor.name)
        if entry is None or tensor != TensorFacts.of(entry, entry.digest):
            raise _false(4, f"tensor {tensor.name} is not what the manifest lists", signed)
    return f"all {len(signed.statement.tensors)} are what the manifest lists"


def check_runtime(signed: SignedStatement, declared: str) -> str:
    """Check 5: it computes in the dtype that was registered. Raises `StatementError`."""
    runtime = signed.statement.runtime
    if runtime.dtype != declared:
        text = f"it is served in {runtime.dtype}, registered to be served in {declared}"
        raise _false(5, text, signed)
    return f"{runtime.dtype} on {runtime.device}, {runtime.engine} {runtime.version}"


def body(nonce: bytes, tensors: int) -> JsonObject:
    """Return the request that asks for a statement."""
    return {"nonce": "0x" + nonce.hex(), "tensors": tensors}


def _shown(value: object) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)


def _false(check: int, message: str, signed: SignedStatement) -> StatementError:
    return StatementError(check, message, evidence=signed.evidence())
